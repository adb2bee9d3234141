"""Makes the proposer that the configuration asks for."""

from pathlib import Path

from autoresearch.config import Config, ProposerConfig
from autoresearch.proposer.agent.presets import takes_model
from autoresearch.proposer.base import Notify, Proposer, nobody
from autoresearch.proposer.cost import Ledger
from autoresearch.proposer.fallback import Mixed, WithFallback
from autoresearch.proposer.llm.proposer import LlmProposer
from autoresearch.proposer.search.proposer import SearchProposer
from autoresearch.sandbox import Sandbox

NEXT_MODEL_SECONDS = 60.0
"""A model that another stands behind is waited for at most so long."""


def model_settings(settings: ProposerConfig) -> list[ProposerConfig]:
    """Return `[proposer]` for each model: `model`, then `fallback_models` in turn.

    Address, key, price and window are those of `model`; a fallback of the same provider shares them, one of
    another provider has that provider's usual ones.
    """
    provider = settings.model.partition("/")[0]
    usual = {"api_base": "", "api_key_env": "", "price_in": -1.0, "price_out": -1.0}
    found = [settings]
    for model in settings.fallback_models:
        others = {} if model.partition("/")[0] == provider else {**usual, "context_tokens": 0}
        found.append(settings.model_copy(update={"model": model, **others}))
    return found


def make_proposer(
    config: Config,
    *,
    sandbox: Sandbox | None = None,
    scratch: Path | None = None,
    notify: Notify = nobody,
) -> Proposer:
    """Return the proposer of `[proposer]`: one kind, or a mix.

    While a model cannot be had the next of `fallback_models` stands in, and behind the last of them, as behind a
    command, `search`.

    Args:
        config: All settings.
        sandbox: What keeps a coding agent in; None is none.
        scratch: Folder for the scratch copies of coding agents; None is the system's.
        notify: Told of what a person should know: an outage and its end, an unknown
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
        patience = settings.outage_minutes * 60
        if kind == "llm":
            chain: Proposer = search
            for model in reversed(model_settings(settings)):
                chain = WithFallback(LlmProposer(model, ledger, notify), chain, patience, notify)
                patience = min(patience, NEXT_MODEL_SECONDS)
            return chain
        from autoresearch.proposer.agent.proposer import CommandProposer

        command = CommandProposer(settings, sandbox, scratch, notify)
        return WithFallback(command, search, patience, notify)

    if not settings.mix:
        return make(settings.kind)
    shares = {str(kind): share for kind, share in settings.mix.items()}
    return Mixed({kind: make(kind) for kind in kinds_of(settings)}, shares)


def kinds_of(settings: ProposerConfig) -> tuple[str, ...]:
    """Return the kinds that propose: those with a share of `mix`, else `kind`."""
    if settings.mix:
        return tuple(kind for kind, share in settings.mix.items() if share > 0)
    return (settings.kind,)


def asks_model(settings: ProposerConfig) -> bool:
    """Return whether `[proposer] model` reaches anyone: `llm` does ask it, a command may be started with it."""
    kinds = kinds_of(settings)
    return "llm" in kinds or ("command" in kinds and takes_model(settings.command))
