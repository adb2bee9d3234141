"""An idea as a commit: whole texts put on a parent, and carried over to another parent."""

from collections.abc import Mapping

from autoresearch.errors import WorkError
from autoresearch.paths import is_safe
from autoresearch.record.git import EXECUTABLE, REGULAR, Entry, Repository
from autoresearch.record.messages import candidate_message
from autoresearch.types import Proposal
from autoresearch.util.text import clean_line


def write_candidate(repository: Repository, proposal: Proposal, number: int, at: str) -> str:
    """Store a proposal's commit and return its sha; no ref moves.

    Args:
        repository: Where.
        proposal: Whole texts of the files it changes.
        number: Of the experiment, for the message.
        at: Date of the commit.

    Returns:
        The sha; where nothing changes the parent, or "" for a proposer that was to change something.

    Raises:
        WorkError: a path leads out of the run directory.
    """
    entries = repository.entries(proposal.parent)
    changed = dict(entries)
    for path, text in proposal.files.items():
        _check_path(path)
        is_executable = path in entries and entries[path].mode == EXECUTABLE
        blob = repository.write_blob(text.encode("utf-8", "replace"))
        changed[path] = Entry(EXECUTABLE if is_executable else REGULAR, blob)
    if changed == entries:
        return proposal.parent if proposal.proposer in ("baseline", "human") else ""
    tree = repository.write_tree(changed)
    message = candidate_message(proposal, number)
    return repository.write_commit(tree, [proposal.parent], message, at)


def carry(
    repository: Repository, files: Mapping[str, str], base: str, onto: str
) -> dict[str, str] | None:
    """Return a change made against commit `base` as it would be against `onto`, None if they collide."""
    if base == onto:
        return dict(files)
    carried = {}
    for path, text in files.items():
        old = repository.file_at(base, path) or b""
        new = repository.file_at(onto, path) or b""
        merged = repository.merge3(old, new, text.encode("utf-8", "replace"))
        if merged is None:
            return None
        carried[path] = merged.decode("utf-8", "replace")
    return carried


def _check_path(path: str) -> None:
    if not is_safe(path):
        raise WorkError(
            f"`{clean_line(path)}` is no path inside the run directory",
            hint="name files relative to it, as `[task] editable` does",
            kind="record",
        )
