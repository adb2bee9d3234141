"""The kinds of proposers, one row each, and the proposer that the configuration asks for.

To add a kind: write its class, give it a row in `KINDS` and a name in `types.ConfiguredProposer`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from autoresearch.config import Config, ProposerConfig
from autoresearch.errors import ConfigError, UsageError
from autoresearch.proposer.agent.presets import AGENTS, agent_of, takes_model
from autoresearch.proposer.base import Notify, Proposer, ignore_alert
from autoresearch.proposer.cost import Ledger
from autoresearch.proposer.fallback import Mixed, WithFallback
from autoresearch.proposer.llm.proposer import LlmProposer
from autoresearch.proposer.llm.provider import Provider, is_local
from autoresearch.proposer.search.proposer import SearchProposer
from autoresearch.sandbox import Sandbox

OUTAGE_SECONDS = 600.0
"""Silence of an LLM or a command after which `search` proposes until it answers again."""
NEXT_MODEL_SECONDS = 60.0
"""The longest wait for a model that has another one as its fallback."""


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


@dataclass(frozen=True)
class Parts:
    """What proposers are made from."""

    settings: ProposerConfig
    sandbox: Sandbox | None
    scratch: Path | None
    ledger: Ledger
    notify: Notify


def _make_llm(parts: Parts) -> Proposer:
    """Return the model, then its fallback models, then `search`, each standing in for the one before it."""
    patience = OUTAGE_SECONDS
    chain: Proposer = SearchProposer()
    for model in reversed(model_settings(parts.settings)):
        first = LlmProposer(model, parts.ledger, parts.notify)
        chain = WithFallback(first, chain, patience, parts.notify)
        patience = min(patience, NEXT_MODEL_SECONDS)
    return chain


def _make_command(parts: Parts) -> Proposer:
    from autoresearch.proposer.agent.proposer import CommandProposer

    first = CommandProposer(parts.settings, parts.sandbox, parts.scratch, parts.notify)
    return WithFallback(first, SearchProposer(), OUTAGE_SECONDS, parts.notify)


def _never(_: ProposerConfig) -> bool:
    return False


@dataclass(frozen=True)
class Kind:
    """What the other rooms need to know of one kind of proposer."""

    make: Callable[[Parts], Proposer]
    is_free: bool = False
    """Whether its check costs nothing: `doctor --quick` makes it."""
    asks_model: Callable[[ProposerConfig], bool] = _never
    """Whether it uses `[proposer] model`."""
    shares_device: Callable[[ProposerConfig], bool] = _never
    """Whether proposing uses the device of the trials, so that it must not run ahead."""
    unpriced: Callable[[ProposerConfig], list[str]] = lambda _: []
    """What it asks and cannot say the cost of before it is asked: no cap on money could be enforced."""
    model_hint: str = ""
    """How to make it use `[proposer] model` where it does not."""


KINDS: Mapping[str, Kind] = {
    "search": Kind(lambda _: SearchProposer(), is_free=True),
    "llm": Kind(
        _make_llm,
        asks_model=lambda _: True,
        shares_device=lambda settings: any(map(is_local, model_settings(settings))),
        unpriced=lambda settings: [
            m.model for m in model_settings(settings) if m.model and Provider(m).price is None
        ],
    ),
    "command": Kind(
        _make_command,
        asks_model=lambda settings: takes_model(settings.command),
        unpriced=lambda settings: (
            settings.command[:1]
            if settings.price_in < 0
            and settings.command
            and not agent_of(settings.command).cost_option
            else []
        ),
        model_hint="write `{model}` in `[proposer] command` to pass it to your own command",
    ),
}


def check_cap(config: Config) -> None:
    """Check that `max_cost` can be enforced, without a call to a provider.

    Raises:
        ConfigError: the price of something that will be asked is not known.
    """
    settings = config.proposer
    unknown = [name for kind in kinds_of(settings) for name in KINDS[kind].unpriced(settings)]
    if config.session.max_cost and unknown:
        raise ConfigError(
            f"what {' and '.join(f'`{name}`' for name in unknown)} costs is not known, so"
            f" `--max-cost {config.session.max_cost:g}` cannot be enforced",
            hint="set `price_in` and `price_out`, US dollars per million tokens, under `[proposer]` in"
            " autoresearch.toml, or leave `--max-cost` out",
        )


def named(name: str) -> dict[str, object]:
    """Return the settings of `[proposer]`, by name, that `--proposer NAME` stands for: a kind, an agent or a model.

    Raises:
        UsageError: it is none of them.
    """
    if name in KINDS:
        return {"kind": name, "mix": {}}
    if name in AGENTS and AGENTS[name].preset:
        return {"kind": "command", "mix": {}, "command": [name]}
    if re.match(r"\w[^/]*/.", name):
        return {"kind": "llm", "mix": {}, "model": name}
    raise UsageError(
        f"`{name}` is no proposer",
        hint="`claude`, `codex`, a model by its provider and name such as `anthropic/claude-sonnet-4-5` or"
        " `ollama_chat/qwen3-coder`, or `search`; any other command goes into `[proposer] command` of"
        " autoresearch.toml",
    )


def make_proposer(
    config: Config,
    *,
    sandbox: Sandbox | None = None,
    scratch: Path | None = None,
    notify: Notify = ignore_alert,
) -> Proposer:
    """Return the proposer of `[proposer]`: one kind, or a mix.

    While a model cannot be had the next of `fallback_models` stands in, and after the last of them, as for a command,
    `search`.

    Args:
        config: All settings.
        sandbox: What coding agents run in; None is none.
        scratch: Folder for the scratch copies of coding agents; None is the system's.
        notify: Called, from the thread that proposes, with what you should know: an outage and its end, an unknown
            price.

    Raises:
        ConfigError: a setting that the kind needs is missing.
    """
    settings = config.proposer
    parts = Parts(settings, sandbox, scratch, Ledger(), notify)
    if not settings.mix:
        return KINDS[settings.kind].make(parts)
    shares = {str(kind): share for kind, share in settings.mix.items()}
    return Mixed({kind: KINDS[kind].make(parts) for kind in kinds_of(settings)}, shares)


def kinds_of(settings: ProposerConfig) -> tuple[str, ...]:
    """Return the kinds that propose: those with a share of `mix`, else `kind`."""
    if settings.mix:
        return tuple(kind for kind, share in settings.mix.items() if share > 0)
    return (settings.kind,)


def asks_model(settings: ProposerConfig) -> bool:
    """Return whether `[proposer] model` is used by any of the kinds that propose."""
    return any(KINDS[kind].asks_model(settings) for kind in kinds_of(settings))
