"""Where trials run: what the loop and confirmations see of it, and `local`, the device of this machine."""

import threading
from collections.abc import Callable
from typing import Protocol

from autoresearch.events import Progress
from autoresearch.types import TrialResult, TrialSpec


class Executor(Protocol):
    """Something that can run a trial; one local device is one slot."""

    def run(
        self,
        spec: TrialSpec,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> TrialResult:
        """Run one trial to its end and judge it; never raises for what the child does."""
        ...
