"""All sessions of a run directory, and new ones that begin where another got to."""

from autoresearch.errors import AutoresearchError, UsageError
from autoresearch.paths import RunDirectory
from autoresearch.record.branches import forget_spare, session_tags
from autoresearch.record.git import RefUpdate, Repository
from autoresearch.record.journal import writing
from autoresearch.record.record import Record
from autoresearch.record.refs import branch_ref, check_tag, worktree_ref
from autoresearch.rundir.status import ensure_state
from autoresearch.types import Session


def sessions(run_directory: RunDirectory) -> list[Session]:
    """Return every session of a run directory, the one with the newest event first."""
    with Repository.open(run_directory.root) as repository:
        found = []
        for tag in session_tags(repository):
            with Record(run_directory, repository, tag) as record:
                found.append(record.session())
        return found


def begin_from(run_directory: RunDirectory, tag: str, source: str) -> Record:
    """Make session `tag` begin with an old result, and give the working tree its files.

    `source` is a tag (its best), an experiment of the current session (`best`, `12`), or any commit.

    Raises:
        UsageError: the session exists, `source` means nothing, or the working tree holds edits.
    """
    check_tag(tag)
    repository = Repository.open(run_directory.root)
    record = Record(run_directory, repository, tag)
    try:
        if tag in session_tags(repository):
            raise UsageError(
                f"session `{tag}` exists already",
                hint=f"continue it: `autoresearch run --tag {tag}`, or choose another tag",
            )
        _switch(record, start_commit(run_directory, source))
    except BaseException:
        record.close()
        raise
    return record


def start_commit(run_directory: RunDirectory, source: str) -> str:
    """Return the commit `source` means, see `begin_from`."""
    with Repository.open(run_directory.root) as repository:
        if source in session_tags(repository):
            session = Record(run_directory, repository, source).session()
            return repository.ref(branch_ref(source)) or session.tip
        try:
            with Record.open(run_directory) as current:
                return current.commit_of(source)
        except AutoresearchError as exc:
            commit = repository.rev_parse(source)
            if commit is None:
                raise UsageError(
                    f"`{source}` is no session, no experiment and no commit",
                    hint="see `autoresearch log --sessions`",
                ) from exc
            return commit


def _switch(record: Record, commit: str) -> None:
    """Put HEAD on a new branch at `commit`; refuses where that would drop changes of the user."""
    repository = record.repository
    here = repository.ref("HEAD") or commit
    dirty = record.worktree.edited(here, commit)
    if dirty:
        raise UsageError(
            "the working tree has changes that the new session would replace: "
            + ", ".join(f"`{path}`" for path in dirty[:5]),
            hint="commit or stash them first: `git stash`",
        )
    ensure_state(record.run_directory)
    with writing(repository, record.tag):
        updates = [
            RefUpdate(branch_ref(record.tag), commit, ""),
            RefUpdate(worktree_ref(record.tag), here, None),
            *forget_spare(repository, record.tag),
        ]
        repository.update_refs(updates, "begin")
    repository.set_head(branch_ref(record.tag))
    record.update_worktree(commit)
