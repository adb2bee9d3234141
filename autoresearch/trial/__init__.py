"""What train.py may import: `Trial`, `attend` and `is_out_of_memory`; everything else here belongs to the lab."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoresearch.trial.child.attention import attend
    from autoresearch.trial.child.client import Trial
    from autoresearch.trial.child.script import is_out_of_memory

__all__ = ["Trial", "attend", "is_out_of_memory"]

_HOMES = {"Trial": "client", "attend": "attention", "is_out_of_memory": "script"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"autoresearch.trial.child.{_HOMES[name]}"), name)
