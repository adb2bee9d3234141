"""File locks: one session per run directory, one trial at a time per GPU, one writer per record.

A lock is a kernel lock (`flock`) on a small file that also says who holds it, so it ends with its holder, however
that dies, and needs no cleaning up. The lock of a run directory is in `.git/`, because everything
under `.autoresearch/` may be deleted at any time.

Trade-offs: `flock` on old network file systems may not reach other machines; there the holder's note names the machine.
"""

import contextlib
import fcntl
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from autoresearch.errors import WorkError
from autoresearch.events import now

_GPU_LOCKS = Path("/tmp/autoresearch-locks")  # noqa: S108 - one place for all users of the machine


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    pid: int
    host: str
    since: str
    what: str = ""
    """The run directory and tag, for messages."""
    tag: str = ""
    """The session, for the lock of a run directory."""
    process_start: str = ""
    """Start time of the process: a pid alone may be another process's by now."""

    def __str__(self) -> str:
        place = "" if self.host == platform.node() else f" on {self.host}"
        return f"process {self.pid}{place}, {self.what}, since {self.since}"


class Lock:
    """An exclusive lock on a file, held by this process until `release`."""

    def __init__(self, path: Path, what: str = "", tag: str = "") -> None:
        self.path = path
        self.what = what
        self.tag = tag
        self._file: int | None = None

    def acquire(self, timeout_seconds: float = 0.0) -> bool:
        """Try to take the lock; returns whether it is ours now.

        Raises:
            WorkError: the file cannot be made (read-only or full disk).
        """
        deadline = time.monotonic() + timeout_seconds
        try:
            file = _open(self.path)
        except OSError as exc:
            raise WorkError(
                f"cannot write the lock file `{self.path}`: {exc.strerror}",
                hint="is the disk full, or the folder read-only?",
                kind="disk",
            ) from exc
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(file)
                    return False
                time.sleep(0.02)
        self._file = file
        if self.what:
            self._sign(file)
        return True

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    @property
    def descriptor(self) -> int | None:
        """The file that holds the lock, for children that keep it locked; None when it is not held."""
        return self._file

    def _sign(self, file: int) -> None:
        pid = os.getpid()
        holder = Holder(pid, platform.node(), now(), self.what, self.tag, process_start(pid) or "")
        with contextlib.suppress(OSError):  # a full disk must not keep the lock from being held
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(asdict(holder)).encode(), 0)


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the lock at `path`, however long that takes; `on_wait` is called first if another process holds it."""
    lock = Lock(path)
    if not lock.acquire():
        on_wait()
        lock.acquire(math.inf)
    try:
        yield
    finally:
        lock.release()


def _open(path: Path) -> int:
    """Open a lock file, made where it is missing.

    A file that is there is opened without O_CREAT: with that, in a folder for all users, Linux refuses the file of
    another user (`fs.protected_regular`).
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags)
        with contextlib.suppress(FileExistsError):  # another process was faster
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)


def holder_of(path: Path) -> Holder | None:
    """Return who holds the lock at `path` now, None if it is free. Writes nothing."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_holder(file) or Holder(0, platform.node(), "", "an unknown process")
        return None
    except OSError:
        return None
    finally:
        os.close(file)


def _read_holder(file: int) -> Holder | None:
    try:
        return Holder(**json.loads(os.pread(file, 4096, 0)))
    except (OSError, ValueError, TypeError):
        return None


def process_start(pid: int) -> str | None:
    """Return something that tells this process from a later one with the same pid; None: it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        pass
    import psutil

    try:
        return str(int(psutil.Process(pid).create_time()))
    except psutil.Error:
        return None


@contextlib.contextmanager
def session_lock(git_dir: Path, what: str, tag: str) -> Iterator[Lock]:
    """Hold the lock of a run directory for session `tag`.

    Raises:
        WorkError: another process holds it (kind `locked`); names it.
    """
    lock = Lock(session_lock_path(git_dir, make=True), what, tag)
    if not lock.acquire(timeout_seconds=1.0):  # readers hold it for an instant when they look
        holder = holder_of(lock.path)
        raise WorkError(
            f"a session is running here already: {holder or 'it has just ended'}",
            hint="watch it with `autoresearch log`, end it with `autoresearch stop`",
            kind="locked",
        )
    try:
        yield lock
    finally:
        lock.release()


def session_lock_path(git_dir: Path, *, make: bool = False) -> Path:
    """Return the lock file of a run directory."""
    return _folder(git_dir, make=make) / "session.lock"


def write_lock_path(git_dir: Path) -> Path:
    """Return the lock file that every writer of the record holds for the moment of writing."""
    return _folder(git_dir, make=True) / "write.lock"


def _folder(git_dir: Path, *, make: bool) -> Path:
    folder = git_dir / "autoresearch"
    if make:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as exc:
            if not git_dir.is_dir():
                raise WorkError(
                    f"the run directory `{git_dir.parent}` was moved or deleted",
                    hint="give `autoresearch run` in its new place, which continues the session",
                    kind="git",
                ) from exc
            raise WorkError(
                f"cannot write in `{git_dir}`: {exc.strerror}",
                hint="is the disk full, or the folder read-only?",
                kind="disk",
            ) from exc
    return folder


@contextlib.contextmanager
def gpu_lock(device: str, what: str) -> Iterator[Lock]:
    """Hold a GPU against other run directories of this machine.

    Args:
        device: What identifies it, preferably its UUID.
        what: The run directory, for messages.

    Raises:
        WorkError: another process holds it (kind `locked`); names it.
    """
    with contextlib.suppress(OSError):
        _GPU_LOCKS.mkdir(exist_ok=True)
        _GPU_LOCKS.chmod(0o1777)
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in device)
    lock = Lock(_GPU_LOCKS / f"{name}.lock", what)
    if not lock.acquire(timeout_seconds=0.2):
        raise WorkError(
            f"another session trains on `{device}`: {holder_of(lock.path)}",
            hint="two sessions on one GPU spoil each other's numbers; wait, or choose another GPU"
            " with CUDA_VISIBLE_DEVICES",
            kind="locked",
        )
    with contextlib.suppress(OSError):
        lock.path.chmod(0o666)
    try:
        yield lock
    finally:
        lock.release()
