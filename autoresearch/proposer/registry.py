"""Makes the proposer that the configuration asks for."""

from autoresearch.config import Config
from autoresearch.errors import ConfigError
from autoresearch.proposer.base import Proposer


def make_proposer(config: Config) -> Proposer:
    """Return the proposer of `[proposer]`.

    Raises:
        ConfigError: the kind is not known, or a setting that it needs is missing.
    """
    if config.proposer.kind == "search":
        from autoresearch.proposer.search import SearchProposer

        return SearchProposer()
    raise ConfigError(
        f"`proposer.kind` `{config.proposer.kind}` is not ready", hint='set `kind = "search"`'
    )
