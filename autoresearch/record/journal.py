"""The journal of one session in git: appended events under a write lock, with an index for fast reading.

`refs/autoresearch/<tag>/journal` is a chain of commits with one event each: a subject and one line of JSON as the
message, the event's small files as the tree, the experiment's commit as a second parent.
`refs/autoresearch-spare/<tag>` moves with it and stands in where it was deleted.

Guarantees: when `append` returns, the event is on the disk and the refs that move with it have moved; or it raises, and
none of that happened. Errors of the listener do not affect the write.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from autoresearch.errors import AutoresearchError, PrerequisiteError, WorkError
from autoresearch.events import SCHEMA, Alerted, Event
from autoresearch.paths import RunDirectory, is_safe
from autoresearch.record.commits import event_message
from autoresearch.record.fold import Fold, without_gc
from autoresearch.record.git import REGULAR, Entry, RefUpdate, Repository
from autoresearch.record.git_command import GitKilledError
from autoresearch.record.refs import (
    FETCH,
    branch_ref,
    hand_ref,
    journal_ref,
    spare_ref,
    worktree_ref,
)
from autoresearch.util.locks import Lock, write_lock_path
from autoresearch.util.text import clean_json, clean_line, redact

_MAX_EVENT_BYTES = 900_000
_MAX_FILE_BYTES = 1_000_000


class Journal:
    """One session's journal."""

    def __init__(self, run_directory: RunDirectory, repository: Repository, tag: str) -> None:
        self._run_directory = run_directory
        self._repository = repository
        self._tag = tag
        self._ref = journal_ref(tag)
        self._fold = Fold(tag)
        self._num_indexed = 0
        self.lock = threading.RLock()
        """Held by a thread of this process that reads and then writes."""
        self.listener: Callable[[Event], None] = lambda _: None
        """Called with each event once it is stored. Its first failure is recorded as an alert, and none is raised."""
        self._has_listener_failed = False

    @property
    def exists(self) -> bool:
        """Whether anything is recorded; a clone has nothing before the record is fetched."""
        return self.tip() is not None

    def tip(self) -> str | None:
        """Return the newest event's commit: by the ref, else by the spare one, else as this process read it."""
        refs = (self._ref, spare_ref(self._tag), self._fold.journal)
        return next(filter(None, map(self._repository.ref, filter(None, refs))), None)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to write, against other threads and other processes; may be nested."""
        with self.lock, writing(self._repository, self._tag):
            yield

    def append(
        self,
        event: Event,
        files: Mapping[str, bytes] | None = None,
        commit: str | None = None,
        moves: Sequence[RefUpdate] = (),
    ) -> str:
        """Add an event and return its commit.

        Args:
            event: A durable event; its text is cleaned first.
            files: Small files of the event: name -> content.
            commit: An experiment's commit, kept reachable as second parent.
            moves: Further refs to move in the same transaction.

        Raises:
            RefMovedError: one of them does not hold its expected value; nothing was stored.
            WorkError: git or the disk failed; nothing was stored.
            PrerequisiteError: the beginning of the record was not fetched.
        """
        with self.writing():
            line = _line(event)
            journal = self.tip()
            if self._repository.shallow():
                self.fold()  # nothing is added to a record whose beginning is missing
            if journal and self._repository.ref(self._ref) is None:
                self._repository.update_refs([RefUpdate(self._ref, journal, "")], "restore")
                text = f"`{self._ref}` was deleted by another program; nothing is lost, it is written again"
                journal = self.append(Alerted(text=text, command=FETCH))
            tree = self._tree(files or {})
            if journal is None and commit is not None:  # its first parent must be the chain
                opened = json.dumps({"v": SCHEMA, "type": "opened", "at": event.at})
                empty = self._tree({})
                journal = self._repository.write_commit(empty, [], opened + "\n", event.at)
                self._repository.update_refs([RefUpdate(self._ref, journal, "")], "journal")
            parents = [sha for sha in (journal, commit) if sha]
            message = event_message(event, line)
            sha = self._repository.write_commit(tree, parents, message, event.at)
            update = RefUpdate(self._ref, sha, journal or "")
            spare = RefUpdate(spare_ref(self._tag), sha, None)
            self._repository.update_refs([update, spare, *moves], event.type)
            if self._fold.journal == (journal or ""):
                self._fold.apply(sha, message)
            self._tell(event)
            return sha

    def _tell(self, event: Event) -> None:
        try:
            self.listener(event)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the event is stored
            if not self._has_listener_failed:
                self._has_listener_failed = True
                with contextlib.suppress(AutoresearchError):
                    self.append(Alerted(text=f"events are not shown: {type(exc).__name__}: {exc}"))

    def _tree(self, files: Mapping[str, bytes]) -> str:
        blobs = {
            _file_name(path): Entry(REGULAR, self._repository.write_blob(_cut(content)))
            for path, content in files.items()
        }
        return self._repository.write_tree(blobs)

    def fold(self) -> Fold:
        """Return the fold of all events there are now; cheap when nothing changed.

        Raises:
            PrerequisiteError: the beginning of the record was not fetched.
        """
        tip = self.tip()
        if tip == (self._fold.journal or None):
            return self._fold
        if tip is None:
            self._fold = Fold(self._tag)
            return self._fold
        fold = self._fold
        if not fold.journal:
            fold = load_index(self._run_directory, self._tag) or fold
            self._num_indexed = fold.num_events
        if fold.journal != tip:
            fold = self._follow(fold, tip)
        self._fold = fold
        self._num_indexed = save_index(self._run_directory, fold, self._num_indexed)
        return fold

    def _follow(self, fold: Fold, tip: str) -> Fold:
        after = fold.journal
        if after and self._repository.ref(after) is None:
            after = ""
        events = list(self._repository.chain(tip, after or None))
        if after and (not events or events[0][1][:1] != [after]):  # another history: start again
            after, self._num_indexed = "", 0
            events = list(self._repository.chain(tip))
        if not after:
            fold = Fold(self._tag)
            if events and events[0][0] in self._repository.shallow():
                raise PrerequisiteError(
                    f"the record of session `{self._tag}` was fetched with a depth: its beginning is missing",
                    hint=f"fetch the rest: `{FETCH} --unshallow`",
                    kind="record",
                )
        with without_gc():
            for sha, _, message in events:
                fold.apply(sha, message)
        return fold


def _line(event: Event) -> str:
    payload = clean_json(event.to_json())
    line = redact(json.dumps(payload, ensure_ascii=True, separators=(",", ":"), allow_nan=False))
    if len(line) > _MAX_EVENT_BYTES:
        raise WorkError(
            f"an event of kind `{event.type}` has {len(line)} bytes, more than {_MAX_EVENT_BYTES}",
            kind="record",
        )
    return line


def _cut(content: bytes) -> bytes:
    """Return the small file of an event without secrets, cut in the middle if it is not small."""
    content = redact(content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    if len(content) <= _MAX_FILE_BYTES:
        return content
    half = _MAX_FILE_BYTES // 2
    note = f"\n... [{len(content) - 2 * half} bytes left out] ...\n".encode()
    return content[:half] + note + content[-half:]


def _file_name(path: str) -> str:
    parts = clean_line(path).replace("\\", "/").split("/")
    return "/".join(filter(is_safe, parts)) or "file"


_MIN_NEW_EVENTS = 400
"""Fewer are folded faster than the index is written."""


def _path(run_directory: RunDirectory, tag: str) -> Path:
    return run_directory.state / "index" / f"{tag}.json"


def load_index(run_directory: RunDirectory, tag: str) -> Fold | None:
    """Return the stored fold of a session, None if there is none that can be used."""
    try:
        with without_gc():
            state = json.loads(_path(run_directory, tag).read_bytes())
            fold = Fold.load(state)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return fold if fold is not None and fold.tag == tag else None


def save_index(run_directory: RunDirectory, fold: Fold, num_stored: int) -> int:
    """Store a fold if enough is new in it; returns how many events are stored then.

    Does nothing where `.autoresearch/` does not exist or cannot be written.
    """
    from autoresearch.util.files import write_file

    if fold.num_events - num_stored < _MIN_NEW_EVENTS or not run_directory.state.is_dir():
        return num_stored
    text = json.dumps(fold.dump(), separators=(",", ":"))
    with contextlib.suppress(AutoresearchError, OSError):
        write_file(_path(run_directory, fold.tag), text.encode(), durable=False)
    return fold.num_events


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
        try:
            mark.touch()
        except OSError as exc:
            raise _cannot_write(mark.parent, exc) from exc
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


def _cannot_write(folder: Path, exc: OSError) -> WorkError:
    return WorkError(
        f"cannot write in `{folder}`: {exc.strerror}",
        hint="free some space or make the folder writable, then run the same command again",
        kind="disk",
    )


def _unmark(mark: Path) -> None:
    with contextlib.suppress(OSError):
        mark.unlink(missing_ok=True)


def clear_wreck(repository: Repository, tag: str, mark: Path) -> None:
    """Remove the lock files a killed writer of ours left; the caller holds the write lock.

    If `mark` exists, a writer died in the middle, and the locks of the branch, of HEAD and of the index that are
    younger than the mark are its own.

    Raises:
        WorkError: a wreck is in a folder that cannot be written (kind `disk`).
    """
    common, own = repository.common_dir, repository.git_dir
    ours = [common / f"{ref(tag)}.lock" for ref in (journal_ref, spare_ref, worktree_ref, hand_ref)]
    shared = [common / f"{branch_ref(tag)}.lock", own / "HEAD.lock", own / "index.lock"]
    marked_at = _modified(mark)
    candidates = [(path, _OLD_SECONDS if marked_at is None else _ORPHAN_SECONDS) for path in ours]
    if marked_at is not None:
        candidates += [(p, _ORPHAN_SECONDS) for p in shared if (_modified(p) or 0) >= marked_at]
    for path, limit in candidates:
        while (at := _modified(path)) is not None:
            if abs(time.time() - at) >= limit:
                try:
                    path.unlink(missing_ok=True)
                except OSError as exc:
                    raise _cannot_write(path.parent, exc) from exc
                break
            time.sleep(0.05)


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
