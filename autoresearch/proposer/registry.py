"""Makes the proposer that the configuration asks for."""

from pathlib import Path

from autoresearch.config import Config
from autoresearch.errors import ConfigError
from autoresearch.proposer.base import Proposer
from autoresearch.proposer.llm import LlmProposer, Notify, nobody
from autoresearch.proposer.mixed import Mixed, WithFallback
from autoresearch.proposer.money import Ledger
from autoresearch.proposer.search import SearchProposer
from autoresearch.trial.sandbox import Sandbox


def make_proposer(
    config: Config,
    *,
    sandbox: Sandbox | None = None,
    scratch: Path | None = None,
    notify: Notify = nobody,
) -> Proposer:
    """Return the proposer of `[proposer]`: one kind, or a mix; `search` stands in during outages.

    Args:
        config: All settings.
        sandbox: What keeps a coding agent in; None is none.
        scratch: Folder for the scratch copies of coding agents; None is the system's.
        notify: Told (sentence, what to type) of what a person should know: an outage and its end, an unknown
            price. Called from the thread that proposes.

    Raises:
        ConfigError: a setting that the kind needs is missing.
    """
    settings = config.proposer
    search = SearchProposer()
    ledger = Ledger()

    def make(kind: str) -> Proposer:
        if kind == "search":
            return search
        if kind == "llm":
            first: Proposer = LlmProposer(settings, ledger, notify)
        elif kind == "command":
            from autoresearch.proposer.command import CommandProposer

            first = CommandProposer(settings, sandbox, scratch, notify)
        else:
            raise ConfigError(
                f"`proposer.kind` `{kind}` is not known", hint="use search, llm or command"
            )
        return WithFallback(first, search, settings.outage_minutes * 60, notify)

    shares: dict[str, float] = {kind: share for kind, share in settings.mix.items() if share > 0}
    if not settings.mix:
        return make(settings.kind)
    if not shares:
        raise ConfigError(
            "`proposer.mix` has no share above 0",
            hint="for example `mix = {search = 0.7, llm = 0.3}`",
        )
    return Mixed({kind: make(kind) for kind in shares}, dict(shares))
