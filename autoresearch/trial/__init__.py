"""One training under the lab's control; train.py imports `Trial` from here and nothing else."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoresearch.trial.client import Trial

__all__ = ["Trial"]


def __getattr__(name: str) -> Any:
    if name == "Trial":
        from autoresearch.trial.client import Trial

        return Trial
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
