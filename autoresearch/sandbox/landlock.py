"""The backend for machines without namespaces (containers, Ubuntu 24.04): Landlock and our filter.

Landlock keeps files in, the filter keeps everything else in that a file rule cannot see, and where
the lab is root the program runs under a throw-away uid. A broker in the launcher answers the few
calls that name a socket or shared memory. The process tree is visible to the child but it can neither
look into other processes nor signal them; limits on disk and memory are watched, not built in.
"""

import atexit
import contextlib
import ctypes
import fcntl
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoresearch.sandbox import command, machine_paths
from autoresearch.sandbox.policy import GUARANTEES, Command, Policy, child_environment
from autoresearch.sandbox.seccomp import FilterOptions, build_filter, can_seal, supports

_CREATE_RULESET, _VERSION = 444, 1
_NEWEST_ABI = 6
_LINKS, _MIN_AGE_SECONDS = "autoresearch-path-", 60.0
"""Folders with a link to the package; how old one is at least that a killed lab left."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


@functools.cache
def kernel_abi() -> int:
    """Return the Landlock version of the kernel, 0 where it has none or has it switched off."""
    uname = os.uname()
    if uname.sysname != "Linux" or not supports(uname.machine):
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)))


@dataclass(frozen=True)
class Landlock:
    """Landlock and a filter; see the module."""

    abi: int
    has_broker: bool = True
    changes_user: bool = False
    """The lab is root and may drop to a throw-away uid that can run the interpreter."""
    seals: bool = True
    """The broker can refuse a judge's child, from when it is shown rows, what could leave a note."""
    name: str = field(default="landlock", init=False)

    @property
    def guarantees(self) -> Mapping[str, bool]:
        """All but a private process tree and a hard quota; without a broker notes can be left too."""
        lacking = {"processes": False, "notes": self.has_broker and self.seals, "quota": False}
        return {**dict.fromkeys(GUARANTEES, True), **lacking}

    def wrap(self, argv: Sequence[str], policy: Policy) -> Command:
        """Return the command that runs `argv` under `policy`."""
        env = child_environment(policy, package=_package_link())
        uid = command.throwaway_uid() if self.changes_user and _can_drop(policy) else None
        if uid is not None:
            command.give(policy.home, uid)
            if policy.temporary is not None:
                # Where links in /tmp are protected, only the owner of one may follow it.
                os.chown(policy.temporary, uid, uid, follow_symlinks=False)
        options = FilterOptions(
            needs_network=policy.needs_network,
            has_broker=self.has_broker,
            has_private_names=False,
            has_scopes=self.abi >= 6,
            has_truncate=self.abi >= 3,
            is_same_user=uid is None,
            is_sealed_later=policy.seal is not None,
        )
        spec = {
            **command.specification(argv, policy, env, uid),
            "mode": "keep",
            "backend": self.name,
            "filter": build_filter(options).hex(),
            "home": os.path.realpath(policy.home),
            "temporary": str(policy.temporary or policy.home),
            "wipe": policy.profile == "judge",
            "abi": min(self.abi, _NEWEST_ABI),
            "has_broker": self.has_broker,
            "has_session": self.abi < 6,
            "needs_network": policy.needs_network,
            "rules": [*_rules(argv, policy), *self._shared(uid)],
        }
        return Command(command.launch(spec), env, command.passed_on(policy), None)

    def _shared(self, uid: int | None) -> list[tuple[str, str]]:
        """Without a broker a throw-away uid may use names in /dev/shm: all it leaves is its own, and goes."""
        return [] if self.has_broker or uid is None else [("/dev/shm", "shared")]  # noqa: S108


def _can_drop(policy: Policy) -> bool:
    """Whether a stranger may read, and come to, what the child needs."""
    needed = (*machine_paths.interpreter_paths(), *policy.read_only, policy.working_directory)
    return command.kept_capabilities() != 0 or (
        all(command.is_open(path) for path in needed)
        and all(command.is_passable(path) for path in (*needed, policy.home))
    )


def _rules(argv: Sequence[str], policy: Policy) -> Iterator[tuple[str, str]]:
    paths = [
        *machine_paths.system_paths(needs_network=policy.needs_network),
        *machine_paths.interpreter_paths(),
        *machine_paths.program_paths(argv[0], policy.environment.get("PATH")),
        *policy.read_only,
        policy.working_directory,
        _package_link(),
    ]
    for path in dict.fromkeys(paths):
        yield (str(path), "read")
    for name in machine_paths.SYS_CPU:
        yield (name, "read")
    yield ("/proc", "read")
    for name in _DEVICES:
        yield (name, "device")
    if policy.needs_gpu:
        yield ("/sys", "read")
        # The driver names its threads through /proc/self/task. The rule is made in the child, so that it is this
        # process, with all its threads and no other: the rest of /proc has settings of the lab's processes.
        yield ("/proc/self", "update")
        for node in machine_paths.gpu_nodes(policy.environment.get("CUDA_VISIBLE_DEVICES", "")):
            yield (str(node), "device")
    yield (str(policy.home), "write")


@functools.cache
def _package_link() -> Path:
    """Return a folder that holds a link to this package and nothing else.

    Listing the folder of the package would show a whole checkout.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_LINKS}*"):
        with contextlib.suppress(OSError):
            is_old = time.time() - left.stat().st_mtime > _MIN_AGE_SECONDS
            lock = _held(left) if is_old else None
            if lock is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)
    folder = Path(tempfile.mkdtemp(prefix=_LINKS))
    folder.chmod(0o755)
    _held(folder)  # As long as this process lives.
    (folder / "autoresearch").symlink_to(machine_paths.package_folder())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _held(folder: Path) -> int | None:
    """Return a descriptor that locks a folder, None where another process holds it or there are no locks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def variants() -> list[Landlock]:
    """Return the ways to use Landlock that are worth a probe, strongest first."""
    abi = kernel_abi()
    if abi < 1:
        return []
    users = (True, False) if command.can_change_user() else (False,)
    return [
        Landlock(abi, has_broker=broker, changes_user=user, seals=seals)
        for user in users
        for broker, seals in ((True, can_seal()), (True, False), (False, False))
    ]
