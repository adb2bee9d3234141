"""Places where a test may kill the lab, to show that nothing is lost.

`reach(step)` costs one comparison unless AUTORESEARCH_FAULT is set to `step` or `step:n`; then the process kills
itself (SIGKILL, no clean-up of any kind) when it gets there for the n-th time.
"""

import os
import signal
from typing import Literal, get_args

Step = Literal[
    "session_started",
    "proposal_written",
    "proposal_stored",
    "snapshot_written",
    "trial_started",
    "weights_in",
    "claimed",
    "audited",
    "trial_stored",
    "decided",
    "commit_written",
    "branch_moved",
    "index_staged",
    "files_written",
    "worktree_given",
    "exported",
    "confirmed",
    "session_ended",
]
STEPS: tuple[str, ...] = get_args(Step)
"""In the order in which an experiment that is kept passes them."""

_target = os.environ.get("AUTORESEARCH_FAULT", "")
_reached = 0


def reach(step: Step) -> None:
    """Mark that the lab has just done `step`."""
    if _target:
        _maybe_die(step)


def _maybe_die(step: str) -> None:
    global _reached  # noqa: PLW0603 - counts for the life of the process, which ends here
    name, _, count = _target.partition(":")
    if name not in STEPS:
        raise ValueError(f"AUTORESEARCH_FAULT: unknown step `{name}`, one of: {', '.join(STEPS)}")
    if step == name:
        _reached += 1
        if _reached == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)
