"""What a child process may touch: the policy, and the backends that enforce it.

`choose()` returns the strongest backend that works here; `report()` is what `doctor` shows. The
backends are bubblewrap, Landlock (both Linux), Seatbelt (macOS) and none.
"""

from autoresearch.sandbox.policy import (
    EXIT_LIMIT,
    GUARANTEES,
    Command,
    NoSandbox,
    Policy,
    Profile,
    Sandbox,
)
from autoresearch.sandbox.select import BackendReport, choose, report

__all__ = [
    "EXIT_LIMIT",
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
