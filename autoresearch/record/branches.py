"""Sessions of a repository by their branches: which exist, which one a command means, how one begins."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from autoresearch.errors import PrerequisiteError, UsageError
from autoresearch.record.git import EXECUTABLE, REGULAR, Entry, RefUpdate, Repository, is_repository
from autoresearch.record.refs import (
    BRANCHES,
    FETCH,
    REFS,
    branch_name,
    branch_ref,
    check_tag,
    journal_ref,
    spare_ref,
    worktree_ref,
)
from autoresearch.types import Experiment, Session
from autoresearch.util.files import read_file


def session_tags(repository: Repository) -> list[str]:
    """Return the tags of all sessions, those with the newest event first."""
    journals = [r for r in repository.refs(REFS) if r.endswith("/journal")]
    tags = [r.removeprefix(REFS).removesuffix("/journal") for r in journals]
    tags += [r.removeprefix(BRANCHES) for r in repository.refs(BRANCHES.rstrip("/"))]
    return list(dict.fromkeys(tags))


def current_tag(root: Path) -> str | None:
    """Return the tag of the session whose branch is checked out in `root`, None if there is none."""
    if not is_repository(root):
        return None
    with Repository.open(root) as repository:
        return _tag_of_head(repository)


def choose_tag(repository: Repository, tag: str | None) -> str:
    """Return the session that is meant: `tag`, else that of the current branch, else the newest.

    Raises:
        UsageError: the tag cannot be one.
        PrerequisiteError: there is no such session.
    """
    if tag is not None:
        chosen: str | None = check_tag(tag)
    else:
        chosen = _tag_of_head(repository)
        if chosen is None or not _exists(repository, chosen):
            chosen = next(iter(session_tags(repository)), None)
    if chosen is None or not _exists(repository, chosen):
        raise _no_session(repository, tag)
    return check_tag(chosen)


def is_elsewhere(repository: Repository, tag: str) -> bool:
    """Whether the session's branch exists and the user is on another commit of another branch."""
    existing = repository.ref(branch_ref(tag))
    return (
        existing is not None
        and repository.ref("HEAD") != existing
        and repository.head() != branch_ref(tag)
    )


def foreign_branch(root: Path, file: str) -> str | None:
    """Return the tag of the current branch where it has `autoresearch/` as its name and is not of a session of ours.

    Args:
        root: A folder.
        file: A file that each session of ours has on its branch.
    """
    tag = current_tag(root)
    if tag is None:
        return None
    with Repository.open(root) as repository:
        tip = repository.ref(f"{BRANCHES}{tag}")
        is_ours = bool(repository.ref(journal_ref(tag)) or repository.ref(worktree_ref(tag)))
        return tag if tip and not is_ours and file not in repository.entries(tip) else None


def begin_branch(
    repository: Repository, tag: str, paths: Sequence[str], at: str, replaced: Sequence[str] = ()
) -> None:
    """Make a session's branch with files of the working tree, and put HEAD on it; the caller may write.

    Files in `replaced` are committed although the branch has them. The index gets the files,
    nothing in the working tree changes. May be killed and called again.
    """
    if is_elsewhere(repository, tag):
        return  # the user stays there
    branch = branch_ref(tag)
    existing, here = repository.ref(branch), repository.ref("HEAD")
    parent = existing or here
    entries = repository.entries(parent) if parent else {}
    missing: dict[str, Entry] = {}
    for path in paths:
        content = read_file(repository.root / path)
        if content is not None and (path not in entries or path in replaced):
            blob = repository.write_blob(content.replace(b"\r\n", b"\n"))
            is_executable = os.access(repository.root / path, os.X_OK)
            missing[path] = Entry(EXECUTABLE if is_executable else REGULAR, blob)
    commit = parent
    if parent is None or missing:
        tree = repository.write_tree({**entries, **missing})
        # Before the branch has them, so that a kill leaves no file that seems to be deleted.
        if missing:
            repository.stage(dict(missing))
        parents = [parent] if parent else []
        commit = repository.write_commit(tree, parents, f"Begin session {tag}\n", at)
    assert commit is not None
    given = worktree_ref(tag)
    if commit != existing or not repository.ref(given):
        updates = [RefUpdate(given, commit, None), *forget_spare(repository, tag)]
        if commit != existing:
            updates.append(RefUpdate(branch, commit, existing or ""))
        repository.update_refs(updates, "init")
    if repository.head() != branch:
        repository.set_head(branch)


def forget_spare(repository: Repository, tag: str) -> list[RefUpdate]:
    """Return what deletes the spare ref of an earlier session of this name, which the user deleted."""
    spare = repository.ref(spare_ref(tag))
    is_deleted = not (repository.ref(branch_ref(tag)) or repository.ref(journal_ref(tag)))
    return [RefUpdate(spare_ref(tag), "0" * len(spare), None)] if spare and is_deleted else []


def check_editable(repository: Repository, tag: str, editable: Sequence[str]) -> None:
    """See that an experiment can change what it may change: files of the branch, the first one there.

    Raises:
        PrerequisiteError: train.py is missing on the branch, or a path is a link or a submodule.
    """
    tip = repository.ref(branch_ref(tag))
    entries = repository.entries(tip) if tip else {}
    for path in editable:
        entry = entries.get(path)
        if entry is not None and not entry.is_file:
            raise PrerequisiteError(
                f"`{path}` on branch `{branch_name(tag)}` is a link or a submodule, which no experiment can change",
                hint="put a file in its place and commit it",
                kind="git",
            )
    if editable[0] not in entries:
        raise PrerequisiteError(
            f"branch `{branch_name(tag)}` has no `{editable[0]}`",
            hint=f"commit it: `git add {editable[0]} && git commit -m 'my {editable[0]}'`"
            if (repository.root / editable[0]).exists()
            else "make and commit it, or correct `[task] editable` in autoresearch.toml",
            kind="git",
        )


def _tag_of_head(repository: Repository) -> str | None:
    head = repository.head() or ""
    return head.removeprefix(BRANCHES) if head.startswith(BRANCHES) else None


def _exists(repository: Repository, tag: str) -> bool:
    return bool(repository.ref(journal_ref(tag)) or repository.ref(branch_ref(tag)))


def _no_session(repository: Repository, tag: str | None) -> PrerequisiteError:
    tags = session_tags(repository)
    name, option, it = (f" `{tag}`", f" --tag {tag}", "it") if tag else ("", "", "one")
    if tag and tags:
        others = "; sessions here: " + ", ".join(f"`{t}`" for t in tags[:8])
    else:
        is_clone = repository.run("remote").strip()
        others = f"; in a clone, fetch the record: `{FETCH}`" if is_clone else ""
    return PrerequisiteError(
        f"there is no session{name} in `{repository.root}`",
        hint=f"begin {it} with `autoresearch init .{option}`{others}",
        kind="record",
    )


_SHA = frozenset("0123456789abcdef")


def resolve(
    session: Session, name: str, candidate: Callable[[int], str] = lambda _: ""
) -> Experiment:
    """Return the experiment `name` means; `candidate` gives the sha of an experiment's candidate commit.

    Raises:
        UsageError: none, or more than one.
    """
    word = name.strip().lower()
    if not session.experiments:
        raise UsageError(
            f"session `{session.tag}` has no experiments yet",
            hint="start it with `autoresearch run`",
        )
    by_number = {e.number: e for e in session.experiments}
    if word == "baseline" and 0 in by_number:
        return by_number[0]
    if word == "best" and session.best in by_number:
        return by_number[session.best]
    if word == "last":
        return session.experiments[-1]
    digits = word.removeprefix("#")
    if digits.isascii() and digits.isdigit() and int(digits) in by_number:
        return by_number[int(digits)]
    if len(word) >= 4 and set(word) <= _SHA:
        found = [
            e
            for e in session.experiments
            if e.commit.startswith(word) or candidate(e.number).startswith(word)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            numbers = ", ".join(f"#{e.number}" for e in found[:5])
            raise UsageError(
                f"`{name}` means more than one experiment: {numbers}",
                hint="use the number, or more digits of the sha",
            )
    last = session.experiments[-1].number
    raise UsageError(
        f"there is no experiment `{name}` in session `{session.tag}`",
        hint=f"use 0 to {last}, `baseline`, `best`, `last` or a sha prefix of 4 or more digits",
    )
