"""Reads and updates the user's working tree, index and HEAD; never overwrites uncommitted changes.

A file may be replaced only while HEAD is on the session's branch and the file holds, byte for byte (line endings
aside), what autoresearch or the branch put there, and the index does too. If any file of a change holds something
else, the whole change stays out of the working tree and the user is alerted. Of a submodule only the index is set, as
by `git checkout`; the repository inside is the user's.
"""

import ast
import contextlib
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from autoresearch.paths import CONFIG_NAME, PROGRAM_NAME
from autoresearch.record.git import (
    EXECUTABLE,
    REGULAR,
    SUBMODULE,
    SYMLINK,
    Entry,
    RefUpdate,
    Repository,
)
from autoresearch.record.refs import branch_ref, hand_ref, worktree_ref
from autoresearch.util.files import read_file, write_file
from autoresearch.util.killpoints import reach


def _normal(content: bytes) -> bytes:
    return content.replace(b"\r\n", b"\n")


@dataclass(frozen=True)
class HandEdit:
    """What the user changed in the working tree."""

    files: Mapping[str, str]
    """Whole texts."""
    base: str
    """The commit they changed: what was given, or the tip where the index says so."""


@dataclass(frozen=True)
class Fault:
    """What keeps a session from the files in the folder, and the command that mends it and loses nothing."""

    text: str
    command: str
    is_broken: bool = False
    """Whether a file is there, but is no Python."""


class WorkTree:
    """The working tree of a run directory, as a session sees it."""

    def __init__(self, repository: Repository, tag: str) -> None:
        self._repository = repository
        self._root = repository.root
        self._branch = branch_ref(tag)
        self._given_ref = worktree_ref(tag)
        self._hand_ref = hand_ref(tag)

    @property
    def is_on_branch(self) -> bool:
        """Whether HEAD is on the session's branch."""
        return self._repository.head() == self._branch

    def given(self) -> str | None:
        """Return the commit the working tree was last given."""
        return self._repository.ref(self._given_ref)

    def taken(self) -> str | None:
        """Return the commit that keeps the last hand edit that was taken up."""
        return self._repository.ref(self._hand_ref)

    def update(self, commit: str, *, includes_taken: bool = False) -> bool:
        """Give the working tree the files of `commit`; True if it has them now.

        Args:
            commit: A commit of the branch.
            includes_taken: The last hand edit is part of `commit`, so the file that holds it may go.

        Raises:
            RefLockedError: a git command of the user holds the index; nothing was changed.
        """
        if not self.is_on_branch:
            return False
        given = self.given()
        if given == commit:
            return True  # what the files became since is the user's
        given = given or commit
        bases = [given, *self._repository.parents(commit)[:1]]
        taken = self.taken()
        if includes_taken and taken:
            bases.append(taken)
        known = [self._repository.entries(base) for base in bases]
        wanted = self._repository.entries(commit)
        paths = sorted(
            path
            for path in wanted.keys() | {p for k in known for p in k}
            if any(k.get(path) != wanted.get(path) for k in known)
        )
        if not self._may_replace(paths, [*known, wanted]):
            return False
        self._write(paths, wanted)
        reach("files_written")
        self._set(self._given_ref, commit)
        reach("worktree_given")
        return True

    def faults(self, editable: Sequence[str], tip: str) -> Iterator[Fault]:
        """Yield what the user should know before anything is trained: a file missing or broken, HEAD elsewhere."""
        name = self._branch.removeprefix("refs/heads/")
        if not self.is_on_branch:
            there = (self._repository.head() or "").removeprefix("refs/heads/")
            at = f"on `{there}`" if there else "on no branch"
            yield Fault(
                f"HEAD is {at}, not on `{name}`: the files here stay as they are, and edits of them are not tried",
                f"git switch {name}",
            )
            return
        entries = self._repository.entries(tip)
        known = [p for p in dict.fromkeys([*editable, PROGRAM_NAME, CONFIG_NAME]) if p in entries]
        if gone := [path for path in known if not (self._root / path).exists()]:
            yield Fault(
                f"{', '.join(gone)} is missing here; trials use what `{name}` holds",
                f"git checkout HEAD -- {shlex.join(gone)}",
            )
        for path in (path for path in editable if path.endswith(".py")):
            content = read_file(self._root / path) or b""
            try:
                ast.parse(content, path)
            except (SyntaxError, ValueError) as exc:
                is_edit = _normal(content) != self._text(tip, path)
                yield Fault(
                    f"`{path}` is not Python: {exc}",
                    "git stash" if is_edit else "",
                    is_broken=True,
                )

    def edited(self, base: str, commit: str) -> list[str]:
        """Return the paths that differ between two commits and hold edits of the user over `base`."""
        ours, theirs = self._repository.entries(base), self._repository.entries(commit)
        paths = self._repository.changed_paths(base, commit)
        return [path for path in paths if not self._may_replace([path], [ours, theirs])]

    def _may_replace(self, paths: Sequence[str], known: Sequence[Mapping[str, Entry]]) -> bool:
        staged = self._repository.index_entries(paths)
        for path in paths:
            entries = [k.get(path) for k in known]
            if staged.get(path) not in entries:
                return False
            if any(e is not None and e.mode == SYMLINK for e in entries):
                return False
            if any((self._root / path).parents[i].is_symlink() for i in range(path.count("/"))):
                return False
            if any(e is not None and e.mode == SUBMODULE for e in entries):
                if any(e is not None and e.mode != SUBMODULE for e in entries):
                    return False
                if (self._root / path).exists() and not (self._root / path).is_dir():
                    return False
                continue
            content = read_file(self._root / path)
            if content is None:
                if (self._root / path).is_symlink() or (self._root / path).exists():
                    return False
                if None not in entries:
                    return False  # the user deleted it
                continue
            blobs = [self._repository.blob(e.sha) for e in entries if e is not None]
            if not any(_normal(content) == _normal(blob) for blob in blobs):
                return False
        return True

    def _write(self, paths: Sequence[str], wanted: Mapping[str, Entry]) -> None:
        changes = {path: wanted.get(path) for path in paths}
        staged = self._repository.index_entries(paths)
        if any(staged.get(path) != entry for path, entry in changes.items()):
            self._repository.stage(changes)
        reach("index_staged")
        for path, entry in changes.items():
            target = self._root / path
            if entry is None:
                if not target.is_dir():  # it was a submodule
                    target.unlink(missing_ok=True)
                continue
            if entry.mode == SUBMODULE:
                target.mkdir(parents=True, exist_ok=True)
                continue
            content = self._repository.blob(entry.sha)
            old = read_file(target)
            if old is not None and _normal(old) == _normal(content):
                continue
            if old is not None and b"\r\n" in old and b"\r" not in content:
                content = content.replace(b"\n", b"\r\n")
            write_file(target, content, 0o755 if entry.mode == EXECUTABLE else None)

    def settle(self, tip: str) -> None:
        """Take note where the user brought the working tree to the tip (a checkout, a commit)."""
        given = self.given()
        if given == tip or not self.is_on_branch:
            return
        wanted = self._repository.entries(tip)
        before = self._repository.entries(given) if given else {}
        paths = [p for p in wanted.keys() | before.keys() if wanted.get(p) != before.get(p)]
        staged = self._repository.index_entries(paths)
        for path in paths:
            entry, content = wanted.get(path), read_file(self._root / path)
            if entry is not None and not entry.is_file:
                if staged.get(path) != entry:
                    return
                continue
            if (entry is None) != (content is None):
                return
            if entry is None or content is None:
                continue
            if _normal(content) != _normal(self._repository.blob(entry.sha)):
                return
        self._set(self._given_ref, tip)

    def hand_edit(
        self, editable: Sequence[str], tip: str, settled_seconds: float
    ) -> HandEdit | None:
        """Return what the user changed and was not taken up yet, None if there is nothing.

        Args:
            editable: Paths an experiment may change.
            tip: The branch's commit: a file equal to it is no edit.
            settled_seconds: Younger changes wait: the user may be typing.
        """
        if not self.is_on_branch:
            return None
        self.settle(tip)
        given = self.given()
        if given is None:
            return None
        files = {}
        for path in editable:
            content = read_file(self._root / path)
            if content is None:
                continue
            normal = _normal(content)
            if normal in (self._text(given, path), self._text(tip, path)):
                continue
            age = abs(time.time() - (self._root / path).lstat().st_mtime)
            if age < settled_seconds:
                return None
            with contextlib.suppress(UnicodeDecodeError):
                files[path] = normal.decode("utf-8")
        edit = HandEdit(files, tip if self._is_staged(list(files), tip) else given)
        return edit if files and not self._is_taken(edit) else None

    def holds(self, editable: Sequence[str], commit: str) -> bool:
        """Whether the files an experiment may change are those of `commit`."""
        texts = {path: read_file(self._root / path) for path in editable}
        return self.is_on_branch and all(
            content is not None and _normal(content) == self._text(commit, path)
            for path, content in texts.items()
        )

    def _is_staged(self, paths: Sequence[str], commit: str) -> bool:
        """Whether the index holds these paths as in `commit`: the user took them from there."""
        staged, entries = self._repository.index_entries(paths), self._repository.entries(commit)
        return all(path in entries and staged.get(path) == entries[path] for path in paths)

    def _is_taken(self, edit: HandEdit) -> bool:
        """Whether the same texts, made from the same texts, were taken up before."""
        taken = self.taken()
        if taken is None:
            return False
        base = self._repository.parents(taken)[0]
        return all(
            text.encode() == self._text(taken, path)
            and self._text(base, path) == self._text(edit.base, path)
            for path, text in edit.files.items()
        )

    def _text(self, commit: str, path: str) -> bytes:
        return _normal(self._repository.file_at(commit, path) or b"")

    def store_hand_edit(self, edit: HandEdit, at: str) -> str:
        """Store a hand edit as a commit on its base and return it; no ref moves."""
        tree = self._repository.write_tree(self._with(edit.files, edit.base))
        parents = [edit.base, *filter(None, [self.taken()])]
        return self._repository.write_commit(tree, parents, "hand edit\n", at)

    def commit(self, files: Mapping[str, str], tip: str, at: str) -> str:
        """Commit these files of the working tree on the branch, as `git commit` does, and return the commit."""
        entries = self._with(files, tip)
        tree = self._repository.write_tree(entries)
        commit = self._repository.write_commit(tree, [tip], f"{', '.join(files)}: my version\n", at)
        self._repository.stage({path: entries[path] for path in files})
        moves = [RefUpdate(self._branch, commit, tip), RefUpdate(self._given_ref, commit, None)]
        self._repository.update_refs(moves, "baseline")
        return commit

    def _with(self, files: Mapping[str, str], base: str) -> dict[str, Entry]:
        entries = self._repository.entries(base)
        for path, text in files.items():
            mode = entries[path].mode if path in entries else REGULAR
            entries[path] = Entry(mode, self._repository.write_blob(text.encode()))
        return entries

    def _set(self, ref: str, commit: str) -> None:
        self._repository.update_refs([RefUpdate(ref, commit, None)], "working tree")
