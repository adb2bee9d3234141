"""What a child process may touch: the policy, and the backends that enforce it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from autoresearch.errors import PrerequisiteError

Profile = Literal["train", "judge", "proposer"]


@dataclass(frozen=True)
class Policy:
    """What one child is allowed; everything not named here does not exist for it."""

    profile: Profile
    working_directory: Path
    """Where it starts; readable."""
    home: Path
    """Its private home and temporary directory, the only writable place; made and removed by the caller."""
    read_only: tuple[Path, ...] = ()
    """Folders and files it may read beside the interpreter and its packages (the snapshot)."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The whole environment; HOME and TMPDIR are set by the backend."""
    inherit: tuple[int, ...] = ()
    """File descriptors passed on."""
    needs_gpu: bool = False
    needs_network: bool = False
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

    name: str
    guarantees: Mapping[str, bool]
    """network, writes, home, validation, processes, quota -> whether this backend contains it."""

    def wrap(self, argv: Sequence[str], policy: Policy) -> Command:
        """Return the command that runs `argv` under `policy`."""
        ...


class NoSandbox:
    """No isolation but an allow-list environment and a private home."""

    name = "none"
    guarantees: Mapping[str, bool] = {
        "network": False,
        "writes": False,
        "home": False,
        "validation": False,
        "processes": False,
        "quota": False,
    }

    def wrap(self, argv: Sequence[str], policy: Policy) -> Command:
        """Return the command that runs `argv` with the policy's environment only."""
        home = str(policy.home)
        env = {**policy.environment, "HOME": home, "TMPDIR": home}
        return Command(tuple(argv), env, policy.inherit, str(policy.working_directory))


def choose(backend: str = "auto", *, is_unsafe_allowed: bool = False) -> Sandbox:
    """Return the strongest backend that works here.

    Raises:
        PrerequisiteError: none works and `is_unsafe_allowed` is False.
    """
    if is_unsafe_allowed or backend == "none":
        return NoSandbox()
    raise PrerequisiteError(
        "no sandbox works on this machine",
        hint="see `autoresearch doctor`, or pass `--unsafe-no-sandbox` knowingly",
        kind="sandbox_missing",
    )
