"""The strongest backend on Linux: namespaces by bubblewrap, our filter, limits set inside.

The child sees an empty root with what it needs bound in, read-only, at the same paths; its own
process tree, no network device, a private /tmp and /dev/shm. As root no user namespace is needed and
the program runs under a throw-away uid; else the user is mapped to itself without capabilities.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoresearch.sandbox import command, machine_paths
from autoresearch.sandbox.landlock import kernel_abi
from autoresearch.sandbox.policy import GUARANTEES, Command, Policy, child_environment
from autoresearch.sandbox.seccomp import FilterOptions, build_filter, can_seal
from autoresearch.types import MB

_BOUND = (Path("/usr"), Path("/bin"), Path("/lib"))
_SHARED = ("/dev/shm", "/tmp")  # noqa: S108
_KERNEL_SETTINGS = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus")
"""Root without a user namespace would be their owner."""


def find() -> str | None:
    """Return the path of bubblewrap, or None."""
    return shutil.which(
        "bwrap", path=os.environ.get("PATH", os.defpath) + ":/usr/bin:/usr/local/bin"
    )


@dataclass(frozen=True)
class Bubblewrap:
    """Namespaces and a filter; see the module."""

    program: str
    has_quota: bool = True
    """This bubblewrap can limit a tmpfs (0.7 and later)."""
    changes_user: bool = False
    """The lab is root: no user namespace, but a throw-away uid."""
    seals: bool = True
    """The keeper can refuse a judge's child, from when it is shown rows, what could leave a note."""
    name: str = field(default="bubblewrap", init=False)

    @property
    def guarantees(self) -> Mapping[str, bool]:
        """Everything."""
        return {**dict.fromkeys(GUARANTEES, True), "notes": self.seals, "quota": self.has_quota}

    def wrap(self, argv: Sequence[str], policy: Policy) -> Command:
        """Return the command that runs `argv` under `policy`."""
        env = child_environment(policy, temporary="/tmp")  # noqa: S108 - it is private
        uid = command.throwaway_uid() if self.changes_user and _can_drop(policy) else None
        is_private = policy.profile == "judge"
        if uid is not None and not is_private:
            command.give(policy.home, uid)
        spec = command.specification(argv, policy, env, uid)
        # With the machine's network come the abstract sockets of its services; Landlock keeps them away.
        has_scope = policy.needs_network and kernel_abi() >= 6
        inner = command.launch(
            {**spec, "mode": "enter", "has_scope": has_scope, "abi": kernel_abi()}
        )
        options = FilterOptions(needs_network=policy.needs_network, has_scopes=has_scope)
        outer = command.launch(
            {
                **spec,
                "argv": [],
                "mode": "keep",
                "backend": self.name,
                "filter": build_filter(options).hex(),
                "bubblewrap": [*self._arguments(argv, policy, uid), "--", *inner],
                "home": str(policy.home),
                "uid": None,
                "wipe": False,
            }
        )
        return Command(outer, env, command.passed_on(policy), None)

    def _arguments(self, argv: Sequence[str], policy: Policy, uid: int | None) -> Iterator[str]:
        yield from (self.program, "--die-with-parent", "--new-session")
        yield from ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", "trial")
        if not policy.needs_network:
            yield "--unshare-net"
        yield from ("--cap-drop", "ALL")
        if uid is not None:
            for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_DAC_READ_SEARCH"):
                yield from ("--cap-add", capability)
        else:
            yield "--unshare-user"
        yield from ("--proc", "/proc", "--dev", "/dev")
        for name in _KERNEL_SETTINGS:
            yield from ("--ro-bind-try", name, name)
        for name in _kernel_tables() if uid is not None else ():
            yield from ("--ro-bind", "/dev/null", name)
        for folder in _SHARED:
            yield from self._memory_folder(folder, policy.disk_mb)
        yield from _system(policy)
        home = str(policy.home)
        programs = _programs(argv, policy)
        shown = [
            path
            for path in (*policy.read_only, policy.working_directory)
            if path != policy.home and policy.home not in path.parents
        ]
        yield from _parents((*programs, policy.home, *shown))
        for path in programs:
            yield from ("--ro-bind", str(path), str(path))
        if policy.profile == "judge":
            yield from self._memory_folder(home, policy.disk_mb)
        else:
            yield from ("--bind", home, home)
        for path in shown:
            yield from ("--ro-bind", str(path), str(path))
        # A GPU's driver names its threads in /proc.
        for folder in ("/dev", "/") if policy.needs_gpu else ("/proc", "/dev", "/"):
            yield from ("--remount-ro", folder)
        yield from ("--seccomp", "{filter}")

    def _memory_folder(self, path: str, size_mb: int) -> tuple[str, ...]:
        size = ("--size", str(size_mb * MB)) if self.has_quota else ()
        return ("--perms", "1777", *size, "--tmpfs", path)


def _can_drop(policy: Policy) -> bool:
    """Whether a stranger may read what is bound in; the folders above it are new ones."""
    return command.kept_capabilities() != 0 or all(
        command.is_open(path)
        for path in (
            *machine_paths.interpreter_paths(),
            *policy.read_only,
            policy.working_directory,
        )
    )


def _kernel_tables() -> Iterator[str]:
    """Yield the files of /proc that only root may read: a child that reads past file modes could."""
    with os.scandir("/proc") as entries:
        for entry in entries:
            if not entry.name.isdigit() and entry.is_file() and not entry.stat().st_mode & 0o004:
                yield entry.path


def _system(policy: Policy) -> Iterator[str]:
    for path in machine_paths.system_paths(needs_network=policy.needs_network):
        if path.is_symlink() and path.parent == Path("/"):
            yield from ("--symlink", str(path.readlink()), str(path))
        else:
            yield from ("--ro-bind-try", str(path), str(path))
    if policy.needs_gpu:
        yield from ("--ro-bind-try", "/sys", "/sys")
        for node in machine_paths.gpu_nodes(policy.environment.get("CUDA_VISIBLE_DEVICES", "")):
            yield from ("--dev-bind-try", str(node), str(node))
    else:
        for name in machine_paths.SYS_CPU:
            yield from ("--ro-bind-try", name, name)


def _programs(argv: Sequence[str], policy: Policy) -> list[Path]:
    paths = machine_paths.interpreter_paths()
    paths += machine_paths.program_paths(argv[0], policy.environment.get("PATH"))
    return [path for path in dict.fromkeys(paths) if not machine_paths.is_inside(path, _BOUND)]


def _parents(paths: Sequence[Path]) -> Iterator[str]:
    """Make the folders above what is bound in, so that any uid may pass; bubblewrap's own are private."""
    folders = {folder for path in paths for folder in path.parents if len(folder.parts) > 1}
    for folder in sorted(folders - {Path("/tmp")}):  # noqa: S108
        if not machine_paths.is_inside(folder, _BOUND):
            yield from ("--perms", "0755", "--dir", str(folder))


def variants() -> list[Bubblewrap]:
    """Return the ways to call bubblewrap that are worth a probe, strongest first."""
    program = find()
    if program is None:
        return []
    result = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    has_quota = "--size" in result.stdout + result.stderr
    users = (True, False) if command.can_change_user() else (False,)
    return [
        Bubblewrap(program, has_quota=has_quota, changes_user=user, seals=seals)
        for user in users
        for seals in ((True, False) if can_seal() else (False,))
    ]
