"""All sessions of a run directory, new ones that begin where another got to, and what was tried before any of them."""

import contextlib
import itertools

from autoresearch.errors import AutoresearchError, UsageError
from autoresearch.paths import RunDirectory
from autoresearch.record.branches import forget_spare, session_tags
from autoresearch.record.git import RefUpdate, Repository
from autoresearch.record.journal import writing
from autoresearch.record.record import Record
from autoresearch.record.refs import branch_ref, check_tag, worktree_ref
from autoresearch.record.results_tsv import read_tsv
from autoresearch.rundir.status import ensure_state
from autoresearch.types import Experiment, Session, State, Verdict
from autoresearch.util.files import is_ours
from autoresearch.util.text import clean_line

_MAX_COMMITS = 200


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


def past(record: Record) -> tuple[Experiment, ...]:
    """Return what was tried before the session, oldest first: rows of a results.tsv that is not ours, and commits.

    None of it is an experiment of the session: its numbers are of another setup, shown and never compared.
    """
    session, repository = record.session(), record.repository
    mine = {e.commit[:7] for e in session.experiments if e.commit}
    commits = _commits(repository, session.experiments[0].commit if session.experiments else "")
    path = record.run_directory.results
    rows: tuple[Experiment, ...] = ()
    if path.is_file() and not is_ours(path):
        with contextlib.suppress(AutoresearchError):
            rows = tuple(e for e in read_tsv(path).experiments if e.commit[:7] not in mine)
    known = {row.commit[:7] for row in rows if row.commit}
    return (*(c for c in commits if c.commit[:7] not in known), *rows)


def _commits(repository: Repository, baseline: str) -> list[Experiment]:
    """Return the commits before a session's baseline that changed train.py, those of sessions of the lab left out."""
    chain = list(repository.chain(baseline))[-_MAX_COMMITS:] if baseline else []
    codes = [repository.file_at(sha, "train.py") for sha, _, _ in chain]
    found: list[Experiment] = []
    for (sha, parents, message), (old, new) in zip(
        chain[1:], itertools.pairwise(codes), strict=True
    ):
        is_idea = old is not None and new is not None and old != new
        if is_idea and sha != baseline and "Autoresearch-" not in message:
            subject = clean_line((message.splitlines() or [""])[0])
            found.append(
                Experiment(
                    number=len(found),
                    commit=sha,
                    parent=parents[0],
                    description=subject,
                    proposer="",
                    state=State.JUDGED,
                    verdict=Verdict.KEEP,
                )
            )
    return found
