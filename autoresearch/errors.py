"""The exit codes, and every error a user or an agent can cause with its exit code, kind and hint."""

from typing import Literal

ErrorKind = Literal[
    "usage",
    "config",
    "not_a_run_directory",
    "data_missing",
    "data_invalid",
    "git",
    "git_missing",
    "hardware",
    "sandbox_missing",
    "setup_changed",
    "locked",
    "proposer",
    "record",
    "conflict",
    "disk",
    "trial_failed",
    "untrusted",
    "system",
    "bug",
]


EXIT_CODES = {
    0: "done",
    1: "the work failed",
    2: "usage or configuration",
    3: "a prerequisite is missing; the hint is the command to run",
    130: "interrupted",
    141: "the reader of a pipe went away",
}
SESSION_EXIT_CODES = {"error": 1, "proposer": 3}
"""Reason a session ended -> exit code, where it is not 0."""


class Interrupted(Exception):  # noqa: N818 - no failure
    """The user ended the work (exit 130); everything to say about it was printed."""


class AutoresearchError(Exception):
    """A failure, printed as one sentence with a hint that says what to do.

    Args:
        message: One sentence without a full stop; names the thing in backticks.
        hint: What helps, with the command where there is one.
        kind: Closed list, for `--json`.
    """

    exit_code = 1
    default_kind: ErrorKind = "record"

    def __init__(
        self, message: str, *, hint: str | None = None, kind: ErrorKind | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kind: ErrorKind = kind or self.default_kind

    def to_json(self) -> dict[str, object]:
        """The error as the object that `--json` prints on stdout."""
        return {
            "error": {
                "kind": self.kind,
                "message": self.message,
                "hint": self.hint,
                "exit_code": self.exit_code,
            }
        }


class WorkError(AutoresearchError):
    """The work itself failed (exit 1)."""

    default_kind: ErrorKind = "trial_failed"


class UsageError(AutoresearchError):
    """The command line or the configuration is wrong (exit 2)."""

    exit_code = 2
    default_kind: ErrorKind = "usage"


class ConfigError(UsageError):
    """autoresearch.toml is wrong (exit 2)."""

    default_kind: ErrorKind = "config"


class ForeignFileError(UsageError):
    """A file stands in the way that the lab did not write (exit 2)."""


class PrerequisiteError(AutoresearchError):
    """Something must be done first (exit 3); the hint is the command that does it."""

    exit_code = 3
    default_kind: ErrorKind = "data_missing"
