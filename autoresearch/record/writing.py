"""The moment of writing: one writer at a time, and no wreck of a killed one in the way.

git locks a ref by a file `<ref>.lock`; a git that is killed leaves it, and every later update of that ref fails. So
each of our writers holds `.git/autoresearch/write.lock` (a kernel lock that ends with its holder) and leaves a mark
beside it while a ref transaction is under way. Whoever finds the mark while holding the lock knows that the lock files
of these refs are a dead writer's, and removes exactly those. Any other lock file is somebody else's and is named.
The git commands of a writer inherit its lock, so one that outlives a killed lab is waited for.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from autoresearch.errors import WorkError
from autoresearch.record.git import Repository
from autoresearch.record.git_command import GitKilledError
from autoresearch.record.refs import branch_ref, hand_ref, journal_ref, worktree_ref
from autoresearch.util.locks import Lock, write_lock_path

_WAIT_SECONDS = 30.0
_ORPHAN_SECONDS = 2.0
"""A git whose lab was killed may still be finishing its transaction."""
_OLD_SECONDS = 15.0
_held = threading.local()


@contextlib.contextmanager
def writing(repository: Repository, tag: str) -> Iterator[None]:
    """Hold the right to write the record of one session; may be nested in a thread.

    Raises:
        WorkError: another process writes for too long, or the folder cannot be written.
    """
    depths: dict[Path, int] = _held.__dict__.setdefault("depths", {})
    path = write_lock_path(repository.common_dir)
    if depths.get(path):
        yield
        return
    lock = Lock(path)
    if not lock.acquire(timeout_seconds=_WAIT_SECONDS):
        raise WorkError(
            f"another process has been writing the record of `{repository.root}` for"
            f" {_WAIT_SECONDS:.0f} seconds",
            hint="look for a hanging git or autoresearch process: `ps aux`",
            kind="locked",
        )
    mark = path.with_name("writing")
    try:
        clear_wreck(repository, tag, mark)
        _touch(mark)
        depths[path] = 1
        assert lock.descriptor is not None
        repository.kept_open = (lock.descriptor,)
        try:
            yield
        except GitKilledError:
            raise  # the mark stays: its locks are a wreck now
        except Exception:
            _unmark(mark)
            raise
        finally:
            depths[path] = 0
            repository.kept_open = ()
        _unmark(mark)
    finally:
        lock.release()


def _touch(mark: Path) -> None:
    try:
        mark.touch()
    except OSError as exc:
        raise _cannot_write(mark.parent, exc) from exc


def _cannot_write(folder: Path, exc: OSError) -> WorkError:
    return WorkError(
        f"cannot write in `{folder}`: {exc.strerror}",
        hint="free some space or make the folder writable, then the same command goes on",
        kind="disk",
    )


def _unmark(mark: Path) -> None:
    with contextlib.suppress(OSError):
        mark.unlink(missing_ok=True)


def clear_wreck(repository: Repository, tag: str, mark: Path) -> list[Path]:
    """Remove the lock files a killed writer of ours left; the caller holds the write lock.

    Args:
        repository: Where.
        tag: Whose refs.
        mark: If it exists, a writer died in the middle, and the locks of the branch, of HEAD and of the index that
            are younger than the mark are its own.

    Returns:
        What was removed.

    Raises:
        WorkError: a wreck is in a folder that cannot be written (kind `disk`).
    """
    common, own = repository.common_dir, repository.git_dir
    ours = [common / f"{ref(tag)}.lock" for ref in (journal_ref, worktree_ref, hand_ref)]
    shared = [common / f"{branch_ref(tag)}.lock", own / "HEAD.lock", own / "index.lock"]
    marked_at = _modified(mark)
    candidates = [(path, _OLD_SECONDS if marked_at is None else _ORPHAN_SECONDS) for path in ours]
    if marked_at is not None:
        candidates += [(p, _ORPHAN_SECONDS) for p in shared if (_modified(p) or 0) >= marked_at]
    removed = []
    for path, limit in candidates:
        while (at := _modified(path)) is not None:
            if abs(time.time() - at) >= limit:
                try:
                    path.unlink(missing_ok=True)
                except OSError as exc:
                    raise _cannot_write(path.parent, exc) from exc
                removed.append(path)
                break
            time.sleep(0.05)
    return removed


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
