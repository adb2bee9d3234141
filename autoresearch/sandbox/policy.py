"""What a child process may touch, and the form every backend has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from autoresearch.sandbox.machine_paths import package_environment

Profile = Literal["train", "judge", "proposer"]

GUARANTEES: Mapping[str, str] = {
    "network": "no network of any family",
    "writes": "writes only to its private folder",
    "home": "your home, keys and other files cannot be read",
    "validation": "validation text and the record cannot be read",
    "processes": "sees and signals its own processes only; none survives",
    "quota": "temporary files have a hard limit; elsewhere limits are watched",
}
"""What a backend may promise, in the order shown."""


EXIT_LIMIT = 122
"""How a child ends that broke a limit on disk or processes; one on memory ends it with SIGKILL."""


@dataclass(frozen=True)
class Policy:
    """What one child is allowed; everything not named here does not exist for it."""

    profile: Profile
    working_directory: Path
    """Where it starts; readable."""
    home: Path
    """Its private home, the only writable place; made and removed by the caller."""
    temporary: Path | None = None
    """A short name for a folder in `home`, which the caller made, for TMPDIR: local sockets have short addresses.
    None: the home itself. A backend with a private /tmp uses that."""
    read_only: tuple[Path, ...] = ()
    """Folders and files it may read in addition to the interpreter and its packages (the snapshot)."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The whole environment; HOME and TMPDIR are set by the backend."""
    inherit: tuple[int, ...] = ()
    """File descriptors passed on."""
    needs_gpu: bool = False
    needs_network: bool = False
    ports: tuple[int, ...] | None = None
    """With a network: the TCP ports it may connect to, where the kernel or a broker can see to it; None is all."""
    max_processes: int = 4096
    memory_mb: int = 0
    disk_mb: int = 4096


@dataclass(frozen=True)
class Command:
    """How to start the child: for `subprocess.Popen(argv, env=..., pass_fds=..., cwd=...)`."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    pass_fds: tuple[int, ...]
    cwd: str | None


class Sandbox(Protocol):
    """One way to keep a child in."""

    @property
    def name(self) -> str:
        """Its word in the configuration, the record and reports."""
        ...

    @property
    def guarantees(self) -> Mapping[str, bool]:
        """Key of `GUARANTEES` -> whether this backend gives it here."""
        ...

    def wrap(self, argv: Sequence[str], policy: Policy) -> Command:
        """Return the command that runs `argv` under `policy`."""
        ...


class NoSandbox:
    """No isolation but an allow-list environment and a private home."""

    name = "none"
    guarantees: Mapping[str, bool] = dict.fromkeys(GUARANTEES, False)

    def wrap(self, argv: Sequence[str], policy: Policy) -> Command:
        """Return the command that runs `argv` with the policy's environment only."""
        return Command(
            tuple(argv), child_environment(policy), policy.inherit, str(policy.working_directory)
        )


def child_environment(
    policy: Policy, *, package: Path | None = None, temporary: str | None = None
) -> dict[str, str]:
    """Return the whole environment of the child: what the policy names and its private places.

    Args:
        policy: What the child is allowed.
        package: Folder to import `autoresearch` from, where its own would show too much.
        temporary: The backend's own place for temporary files.
    """
    home = str(policy.home)
    env = {"USER": "trial", "LOGNAME": "trial", **package_environment(package)}
    temporary = temporary or str(policy.temporary or policy.home)
    return {**env, **policy.environment, "HOME": home, "TMPDIR": temporary}
