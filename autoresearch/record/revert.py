"""Undoes kept experiments: an inverse commit on the branch, never a rewrite of history.

`plan` computes everything and moves nothing; `apply` makes the commit, moves the branch and records it in one ref
transaction. A conflict is found in the plan, so it changes nothing either, and names the experiments to undo first.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoresearch.errors import UsageError
from autoresearch.events import Reverted, now
from autoresearch.record.commits import revert_message
from autoresearch.record.git import Entry, RefUpdate, Repository
from autoresearch.record.git_command import ConflictError, RefLockedError, RefMovedError
from autoresearch.record.record import Record
from autoresearch.record.refs import branch_ref
from autoresearch.types import Experiment, Session, Verdict


@dataclass(frozen=True)
class RevertPlan:
    """What a revert would do."""

    tip: str
    """The branch as it was found; `apply` refuses if it moved."""
    numbers: tuple[int, ...]
    """Experiments that no longer stand afterwards."""
    restored: tuple[int, ...]
    """Experiments that were undone and stand again afterwards."""
    entries: Mapping[str, Entry]
    subject: str
    to: str = ""
    """What the files return to, in words; empty for the inverse of one experiment."""
    diff: str = ""


def plan(record: Record, name: str | None = None, *, to: str | None = None) -> RevertPlan:
    """Work out a revert without changing anything.

    Args:
        record: The session.
        name: The kept experiment to undo; or
        to: the experiment, or any commit, whose files the branch returns to.

    Raises:
        UsageError: it is not a kept experiment that stands, or there is nothing to undo.
        ConflictError: later experiments build on it; names them.
    """
    tip = record.tip()
    session = record.session()
    if to is not None:
        return _plan_to(record, session, tip, to)
    experiment = _kept(record, name or "best")
    state = inverse(record.repository, experiment, record.repository.entries(tip))
    if state is None:
        raise _conflict(record, session, experiment, tip)
    if state == record.repository.entries(tip):
        raise UsageError(
            f"nothing of experiment {experiment.number} is left on `{record.branch}`",
            hint=f"see `autoresearch show {experiment.number}`",
        )
    return RevertPlan(
        tip,
        (experiment.number,),
        (),
        state,
        f"Revert #{experiment.number}: {experiment.description}",
        diff=_preview(record.repository, tip, state),
    )


def _plan_to(record: Record, session: Session, tip: str, to: str) -> RevertPlan:
    commit = record.commit_of(to)
    entries = record.repository.entries(commit)
    if entries == record.repository.entries(tip):
        raise UsageError(
            f"the files on `{record.branch}` are those of `{to}` already",
            hint="see `autoresearch log --kept`",
        )
    standing = {e.number for e in session.kept}
    then = _standing_at(record.repository, session, commit)
    target = next((e for e in session.experiments if e.commit == commit), None)
    what = f"#{target.number} ({commit[:12]})" if target else commit[:12]
    return RevertPlan(
        tip,
        tuple(sorted(standing - then)),
        tuple(sorted(then - standing)),
        entries,
        f"Return to {what}",
        to=what,
        diff=_preview(record.repository, tip, entries),
    )


def _standing_at(repository: Repository, session: Session, commit: str) -> set[int]:
    """Return the kept experiments that stood when `commit` was the tip."""
    kept = {
        e.commit: e.number for e in session.experiments if e.verdict is Verdict.KEEP and e.number
    }
    reverts = {r.commit: r for r in session.reverts}
    standing: set[int] = set()
    for sha, *_ in repository.chain(commit):
        if sha in reverts:
            standing = standing.difference(reverts[sha].undone).union(reverts[sha].restored)
        if sha in kept:
            standing.add(kept[sha])
    return standing


def apply(record: Record, plan: RevertPlan) -> str:
    """Carry out a plan and return the new tip.

    Raises:
        RefMovedError: the branch moved since the plan was made; nothing was changed.
    """
    repository = record.repository
    at = now()
    with record.writing():
        if record.sync_tip() != plan.tip:
            raise RefMovedError(
                f"`{record.branch}` moved while the revert was prepared; nothing was changed",
                hint="look with `autoresearch log`, then try again",
            )
        tree = repository.write_tree(plan.entries)
        message = revert_message(plan.subject, list(plan.numbers), plan.to)
        commit = repository.write_commit(tree, [plan.tip], message, at)
        event = Reverted(
            at=at,
            numbers=list(plan.numbers),
            commit=commit,
            to=plan.to,
            restored=list(plan.restored),
        )
        move = RefUpdate(branch_ref(record.tag), commit, plan.tip)
        record.append(event, commit=commit, moves=[move])
    with contextlib.suppress(RefLockedError):  # the next run gives the files
        record.update_worktree(commit)
    return commit


def _kept(record: Record, name: str) -> Experiment:
    experiment = record.resolve(name)
    if experiment.number == 0:
        raise UsageError(
            "the baseline cannot be undone",
            hint="to return to it: `autoresearch revert --to baseline`"
            if record.session().best
            else "nothing that was kept stands: see `autoresearch log`",
        )
    if experiment.verdict is not Verdict.KEEP:
        raise UsageError(
            f"experiment {experiment.number} is not on the branch"
            f" ({experiment.verdict or experiment.state})",
            hint="only kept experiments can be undone: `autoresearch log --kept`",
        )
    if experiment.reverted_by:
        raise UsageError(
            f"experiment {experiment.number} is undone already (`{experiment.reverted_by[:12]}`)",
            hint="see `autoresearch log --kept`",
        )
    return experiment


def inverse(
    repository: Repository, experiment: Experiment, state: Mapping[str, Entry]
) -> dict[str, Entry] | None:
    """Return the files of `state` without the change an experiment made, None if they collide."""
    parent = repository.parents(experiment.commit)[0]
    after, before = repository.entries(experiment.commit), repository.entries(parent)
    result = dict(state)
    for path in sorted(after.keys() | before.keys()):
        made, was, here = after.get(path), before.get(path), result.get(path)
        if made == was or here == was:
            continue
        if here == made:
            if was is None:
                del result[path]
            else:
                result[path] = was
            continue
        if made is None or was is None or here is None:
            return None
        if not (made.is_file and was.is_file and here.is_file):
            return None
        merged = repository.merge3(
            repository.blob(made.sha), repository.blob(here.sha), repository.blob(was.sha)
        )
        if merged is None:
            return None
        mode = was.mode if here.mode == made.mode else here.mode
        result[path] = Entry(mode, repository.write_blob(merged))
    return result


def _conflict(record: Record, session: Session, experiment: Experiment, tip: str) -> ConflictError:
    numbers = dependents(record, session, experiment, tip)
    names = ", ".join(f"#{n}" for n in numbers) or "a commit that is not an experiment"
    first = f"`autoresearch revert {numbers[-1]}` first, or " if numbers else ""
    return ConflictError(
        f"experiment {experiment.number} cannot be undone alone: {names} changed the same lines"
        " afterwards",
        hint=f"{first}return to the state before it:"
        f" `autoresearch revert --to {experiment.parent[:12]}`; nothing was changed",
    )


def dependents(record: Record, session: Session, experiment: Experiment, tip: str) -> list[int]:
    """Return the later kept experiments that must be undone before `experiment` can be, oldest first."""
    repository = record.repository
    later = [e for e in session.kept if e.number > experiment.number]
    found: list[Experiment] = []
    while True:
        state = repository.entries(tip)
        for item in [*sorted(found, key=lambda e: -e.number), experiment]:
            undone = inverse(repository, item, state)
            if undone is None:
                culprit = _first_in_the_way(repository, item, [e for e in later if e not in found])
                break
            state = undone
        else:
            culprit = None
        if culprit is None:
            return sorted(e.number for e in found)
        found.append(culprit)


def _first_in_the_way(
    repository: Repository, experiment: Experiment, later: Sequence[Experiment]
) -> Experiment | None:
    """Return the first of `later` after which the inverse of `experiment` no longer applies."""

    def touched(e: Experiment) -> set[str]:
        return set(repository.changed_paths(repository.parents(e.commit)[0], e.commit))

    later = [e for e in later if e.number > experiment.number]
    for other in later:
        before = repository.entries(repository.parents(other.commit)[0])
        if (
            inverse(repository, experiment, repository.entries(other.commit)) is None
            and inverse(repository, experiment, before) is not None
        ):
            return other
    mine = touched(experiment)
    return next((other for other in reversed(later) if mine & touched(other)), None)


def _preview(repository: Repository, tip: str, entries: Mapping[str, Entry]) -> str:
    """Return the diff a plan makes; stores a tree that nothing refers to."""
    return repository.diff(tip, repository.write_tree(entries))
