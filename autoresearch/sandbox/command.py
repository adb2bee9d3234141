"""The command line of the launcher, shared by the two Linux backends, and the choice of user."""

import contextlib
import functools
import itertools
import marshal
import os
import random
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoresearch.sandbox import machine_paths
from autoresearch.sandbox.policy import Policy

LAUNCHER = Path(__file__).with_name("launcher")
_CODE = (
    "import sys; sys.path.append(sys.argv[1]); from launcher.main import main; main(sys.argv[2])"
)
_CAP_DAC_READ_SEARCH, _CAP_SETGID, _CAP_SETUID = 2, 6, 7
_NO_GROUP = 65_534
"""What the kernel shows for a group that is not mapped into the user namespace; no process can join it."""
_UIDS = range(61_184, 65_520)
"""Where systemd takes its throw-away users from; mapped in most user namespaces too."""
_numbers = itertools.count(random.SystemRandom().randrange(len(_UIDS)))


def interpreter() -> str:
    """Return the interpreter that runs the launcher: the base one, which starts faster."""
    return str(Path(getattr(sys, "_base_executable", None) or sys.executable).resolve())


def launch(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the argv that runs the launcher with `spec`."""
    data = marshal.dumps(dict(spec)).hex()
    return (interpreter(), "-I", "-S", "-B", "-c", _CODE, str(LAUNCHER.parent), data)


def specification(
    argv: Sequence[str], policy: Policy, env: Iterable[str], uid: int | None
) -> dict[str, Any]:
    """Return what the launcher has to know of a child under either backend: its limits, its user, its program."""
    return {
        "max_processes": policy.max_processes,
        "disk_mb": policy.disk_mb,
        "memory_mb": policy.memory_mb,
        "environment": sorted(env),
        "inherit": list(policy.inherit),
        "ports": None if policy.ports is None else list(policy.ports),
        "uid": uid,
        "groups": node_groups(machine_paths.gpu_nodes()) if policy.needs_gpu else [],
        "capabilities": kept_capabilities() if uid is not None else 0,
        "cwd": str(policy.working_directory),
        "argv": list(argv),
    }


@functools.cache
def capabilities() -> int:
    """Return the effective capabilities of this process as bits."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    except (OSError, ValueError):
        pass
    return 0


def can_change_user() -> bool:
    """Whether the lab may run a child as another user."""
    needed = 1 << _CAP_SETUID | 1 << _CAP_SETGID
    return os.geteuid() == 0 and capabilities() & needed == needed


def kept_capabilities() -> int:
    """Return the bits a child with a throw-away uid keeps.

    Reading past file modes, where the lab has it: the lab's interpreter and snapshots may be in a
    home that only root may enter. What can be named at all is decided by the sandbox, and the filter
    refuses the call that opens files without a name.
    """
    return capabilities() & 1 << _CAP_DAC_READ_SEARCH


def node_groups(nodes: Iterable[Path]) -> list[int]:
    """Return the groups that a child with a throw-away uid keeps, to open the device nodes of GPUs.

    Debian and Ubuntu leave /dev/kfd and /dev/dri/renderD* to the group `render` alone. Only groups of nodes that
    others may not read and write but the group may are kept, never root's own. What else such a group could open
    does not exist in the sandbox; two children then share a group, but no file. Trade-off: a node that only root
    may open stays closed to the child. To keep the uid for it would give up what the uid protects, and where root
    may make no user namespace bubblewrap would not start.

    Args:
        nodes: Device nodes, or folders of them.
    """
    found: set[int] = set()
    for node in nodes:
        with contextlib.suppress(OSError):
            for path in node.iterdir() if node.is_dir() else (node,):
                state = path.stat()
                is_for_group = state.st_mode & 0o060 == 0o060 and state.st_mode & 0o006 != 0o006
                if is_for_group and not stat.S_ISDIR(state.st_mode):
                    found.add(state.st_gid)
    return sorted(found - {0, _NO_GROUP})


def throwaway_uid() -> int:
    """Return an unused uid; the next call returns another."""
    import pwd

    while True:
        uid = _UIDS[next(_numbers) % len(_UIDS)]
        try:
            pwd.getpwuid(uid)
        except KeyError:
            return uid


def is_open(path: Path) -> bool:
    """Whether every user may read a file, or a folder and what is directly in it."""
    try:
        if path.is_dir():
            inner = [entry.stat() for entry in os.scandir(path) if not entry.is_symlink()]
            return path.stat().st_mode & 0o5 == 0o5 and all(s.st_mode & 0o4 for s in inner)
        return bool(path.stat().st_mode & 0o4)
    except OSError:
        return False


def is_passable(path: Path) -> bool:
    """Whether every user may come to a path through the folders above it."""
    try:
        return all(folder.stat().st_mode & 0o1 for folder in path.resolve().parents)
    except OSError:
        return False


def give(folder: Path, uid: int) -> None:
    """Make `uid` the owner of a folder and of all in it; links are not followed."""
    os.chown(folder, uid, uid, follow_symlinks=False)
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(root) / name, uid, uid, follow_symlinks=False)
