"""What a child process may touch: the policy, and the backends that enforce it.

`choose()` returns the strongest backend that works here; `report()` is what `doctor` shows. The
backends are bubblewrap, Landlock (both Linux), Seatbelt (macOS) and none.
"""

from autoresearch.trial.sandbox.choice import BackendReport, choose, report
from autoresearch.trial.sandbox.policy import (
    GUARANTEES,
    Command,
    NoSandbox,
    Policy,
    Profile,
    Sandbox,
)

__all__ = [
    "GUARANTEES",
    "BackendReport",
    "Command",
    "NoSandbox",
    "Policy",
    "Profile",
    "Sandbox",
    "choose",
    "report",
]
