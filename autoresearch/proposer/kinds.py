"""Which kinds of proposer a configuration asks, and whether one of them is told its model."""

from autoresearch.config import ProposerConfig
from autoresearch.proposer.agent.presets import takes_model


def kinds_of(settings: ProposerConfig) -> tuple[str, ...]:
    """Return the kinds that propose: those with a share of `mix`, else `kind`."""
    if settings.mix:
        return tuple(kind for kind, share in settings.mix.items() if share > 0)
    return (settings.kind,)


def asks_model(settings: ProposerConfig) -> bool:
    """Return whether `[proposer] model` reaches anyone: `llm` does ask it, a command may be started with it."""
    kinds = kinds_of(settings)
    return "llm" in kinds or ("command" in kinds and takes_model(settings.command))
