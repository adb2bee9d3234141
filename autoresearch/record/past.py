"""What was tried before a session: rows of a results.tsv that is not the lab's, and commits of its branch.

Its numbers are of another setup: they are shown and told, and never compared with measured ones.
"""

import contextlib
import itertools

from autoresearch.errors import AutoresearchError
from autoresearch.record.git import Repository
from autoresearch.record.record import Record
from autoresearch.record.results_tsv import read_tsv
from autoresearch.types import Experiment, State, Verdict
from autoresearch.util.files import is_ours
from autoresearch.util.text import clean_line

_MAX_COMMITS = 200


def past(record: Record) -> tuple[Experiment, ...]:
    """Return what was tried before the session, oldest first; none of it is an experiment of the session."""
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
