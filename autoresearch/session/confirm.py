"""Runs a confirmation: trains variants on fresh seeds and stores the result.

The trials are run by `session/paired.py`, the arithmetic is in `decision/confirmation.py`.
"""

import dataclasses
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoresearch.config import Config
from autoresearch.decision.confirmation import (
    LEFT_OUT,
    carry_over,
    confirm,
    is_settled,
    p_carries,
)
from autoresearch.decision.scores import is_measured_tip
from autoresearch.errors import UsageError
from autoresearch.events import Confirmed, now
from autoresearch.record.record import Record
from autoresearch.record.revert import inverse
from autoresearch.session.beliefs import Beliefs
from autoresearch.session.build import Lab, check_setup, lock_device, recall
from autoresearch.session.context import Emit
from autoresearch.session.paired import Arm, Bench, make_bench
from autoresearch.tasks.task import Executor
from autoresearch.types import Confirmation, Question, Session
from autoresearch.util.killpoints import reach

Number = int | float
SHARED_ABOVE = 0.1
"""Relative difference in tokens/s between trials of the same code above which a confirmation gets an alert."""


def with_constants(
    files: Mapping[str, bytes],
    editable: Sequence[str],
    changes: Mapping[str, Number],
    number: int,
) -> dict[str, bytes]:
    """Return the editable files in which constants were set.

    Raises:
        UsageError: no editable file has a constant of that name.
    """
    from autoresearch.proposer.search.constants import parse, replace

    left = dict(changes)
    changed = {}
    known: set[str] = set()
    for path in editable:
        if not path.endswith(".py") or path not in files:
            continue
        program = parse(files[path].decode())
        names = {c.name for c in program.constants}
        known |= names
        mine = {name: left.pop(name) for name in list(left) if name in names}
        if mine:
            changed[path] = replace(program, mine).encode()
    if left:
        import difflib

        name = next(iter(left))
        near = difflib.get_close_matches(name, sorted(known), n=1)
        raise UsageError(
            f"experiment {number} has no constant `{name}`",
            hint=f"did you mean `{near[0]}`?"
            if near
            else "known ones: " + ", ".join(sorted(known)),
        )
    return changed


def parse_changes(texts: Sequence[str]) -> dict[str, Number]:
    """Read `NAME=VALUE` words.

    Raises:
        UsageError: a word is not of that form.
    """
    changes: dict[str, Number] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            number = json.loads(value)
        except ValueError:
            number = None
        if not name or isinstance(number, bool) or not isinstance(number, int | float):
            raise UsageError(
                f"`--set` takes NAME=NUMBER, got `{text}`", hint="for example `--set DEPTH=12`"
            )
        changes[name.strip()] = number
    return changes


def run_confirmation(
    record: Record,
    executor: Executor,
    session: Session,
    config: Config,
    *,
    reference: int,
    candidate: int,
    num_trials: int,
    kind: str = "session",
    budget_seconds: float | None = None,
    changes: Mapping[str, Number] | None = None,
    max_seconds: float | None = None,
    stop: threading.Event,
    emit: Emit,
) -> Confirmation | None:
    """Train two experiments on the same fresh seeds, score them on the test split, store the difference.

    Args:
        record: Where trials and result are stored.
        executor: Runs the trials.
        session: The record as it is now; its setup must be the executor's.
        config: For the editable files that hold constants of `changes`.
        reference: Number of the experiment compared against.
        candidate: Number of the experiment in question.
        num_trials: Of each.
        kind: See `types.Confirmation`.
        budget_seconds: Training time of each trial; None: the session's.
        changes: Constants set in both, for `larger`.
        max_seconds: Start no further pair that would not end in this time; two are planned at least.
        stop: Set to end early: what was run stays recorded and counts when called again.
        emit: Called with phases and progress.

    Returns:
        None if stopped, or if fewer than two pairs were good; then an alert says why.

    Raises:
        PrerequisiteError: the session has no setup yet.
        UsageError: `changes` names a constant that a program does not have.
    """
    arms = []
    for number, label in ((reference, "reference"), (candidate, "candidate")):
        files = record.files(session.experiment(number).commit)
        if changes:
            files |= with_constants(files, config.task.editable, changes, number)
        arms.append(Arm(number, files, label))
    note = ", ".join(f"{name}={value}" for name, value in (changes or {}).items())
    question = Question(
        reference=reference,
        candidate=candidate,
        budget_seconds=budget_seconds or (session.setup.budget_seconds if session.setup else 0.0),
        kind=kind,
        note=note,
    )
    bench = make_bench(
        record,
        executor,
        session,
        f"{kind}-{reference}-{candidate}",
        sum(c.question == question for c in session.confirmations),
        stop=stop,
        emit=emit,
        budget_seconds=budget_seconds,
        changes=changes,
    )

    def settled() -> bool:
        return is_settled(bench.results["reference"], bench.results["candidate"], num_trials)

    if not bench.run(arms, num_trials, max_seconds, settled):
        return None
    found = _conclude(bench, question, ("reference", "candidate"), num_trials)
    _tell_if_shared(bench, candidate)
    return found


def run_each(
    record: Record,
    executor: Executor,
    session: Session,
    *,
    num_trials: int,
    stop: threading.Event,
    emit: Emit,
) -> list[Confirmation]:
    """Leave one kept change out at a time and compare each with the whole, on the test split.

    A change that others build on cannot be left out alone; an alert says so.

    Returns:
        One confirmation per change: reference is the best without it, by its number; candidate is the best.
    """
    best = session.experiment(session.best)
    whole = record.repository.entries(best.commit)
    arms = [Arm(best.number, record.repository.contents(whole), "best")]
    for experiment in session.kept:
        if is_measured_tip(experiment):
            continue
        without = inverse(record.repository, experiment, whole)
        if without is None:
            record.alert(
                f"#{experiment.number} cannot be left out alone: later changes build on it"
            )
        else:
            label = f"{LEFT_OUT}{experiment.number}"
            arms.append(Arm(experiment.number, record.repository.contents(without), label))
    if len(arms) == 1:
        return []
    asked = [c.reference for c in session.confirmations if c.kind == "each"]
    index = min(asked.count(arm.number) for arm in arms[1:])
    name = f"each-{best.number}"
    bench = make_bench(record, executor, session, name, index, stop=stop, emit=emit)
    if not bench.run(arms, num_trials, None):
        return []
    found = []
    for arm in arms[1:]:
        question = Question(
            reference=arm.number,
            candidate=best.number,
            budget_seconds=bench.setup.budget_seconds,
            kind="each",
            note=f"best without #{arm.number}",
        )
        found.append(_conclude(bench, question, (arm.label, "best")))
    _tell_if_shared(bench, best.number)
    return [confirmation for confirmation in found if confirmation is not None]


def _conclude(
    bench: Bench, question: Question, labels: tuple[str, str], planned: int = 0
) -> Confirmation | None:
    """Store the answer that the trials of two arms give; None and an alert where they give none."""
    record = bench.record
    ours, theirs = (bench.results[label] for label in labels)
    try:
        found = confirm(ours, theirs, question, setup=bench.setup.key, at=now(), planned=planned)
    except ValueError as exc:
        reasons = sorted({t.reason for t in (*ours, *theirs) if not t.ok and t.reason})
        why = f"{exc}" + (f" ({', '.join(reasons)})" if reasons else "")
        record.alert(f"#{question.candidate} is not confirmed: {why}", "autoresearch confirm")
        return None
    if question.kind in ("session", "pair"):
        found = carry_over(record.session(), found)
    if question.kind == "each":
        decision = record.session().experiment(question.reference).decision
        found = dataclasses.replace(found, p_carries=p_carries(found, decision))
    record.append(Confirmed(confirmation=dataclasses.asdict(found)))
    reach("confirmed")
    return found


def _tell_if_shared(bench: Bench, candidate: int) -> None:
    """Report an alert where trials of the same code ran at different speeds: other programs used the machine."""
    speeds = [
        [t.tokens_per_second for t in trials if t.ok and t.tokens_per_second]
        for trials in bench.results.values()
    ]
    spread = max((max(known) / min(known) - 1 for known in speeds if known), default=0.0)
    if spread > SHARED_ABOVE:
        bench.record.alert(
            f"while #{candidate} was confirmed, trials of the same code differed by {spread:.0%} in"
            " tokens/s: a shared machine makes the interval wide",
            "autoresearch confirm",
        )


@dataclass(frozen=True)
class ConfirmOptions:
    """Options of one `confirm`."""

    reference: str = "baseline"
    candidate: str = "best"
    num_trials: int | None = None
    """Of each; None: as configured."""
    is_each: bool = False
    minutes: float | None = None
    """Training time of each trial instead of the session's."""
    changes: Mapping[str, Number] = field(default_factory=dict)


def confirm_session(
    lab: Lab,
    record: Record,
    options: ConfirmOptions,
    *,
    emit: Emit,
    stop: threading.Event,
) -> list[Confirmation]:
    """Confirm what the user asked for, at any time between two runs.

    Returns:
        What was found; empty if stopped, or if nothing could be compared (then an alert is recorded).

    Raises:
        UsageError: there is no such experiment, the two are the same, or a constant is unknown.
        PrerequisiteError: the machine is not the one the session was measured on, or is in use.
    """
    num_trials = options.num_trials or lab.config.session.confirm_trials or 4
    with record.presence.lock(), lock_device(lab.hardware, lab.run_directory):
        Beliefs(record).restore()
        session = record.session()
        check_setup(session, lab, is_rebaseline=False)
        lab = recall(lab, session)
        if options.is_each and not session.kept:
            raise _nothing_kept(session)
        record.listen(emit)
        if options.is_each:
            _check_tip(record, session)
            return run_each(
                record,
                lab.executor,
                session,
                num_trials=num_trials,
                stop=stop,
                emit=emit,
            )
        names = (options.reference, options.candidate)
        reference, candidate = (record.with_commit(name).number for name in names)
        if reference == candidate:
            if not session.kept:
                raise _nothing_kept(session)
            raise UsageError(
                f"`{options.reference}` and `{options.candidate}` are the same experiment",
                hint="compare two: `autoresearch confirm baseline best`",
            )
        if session.best in (reference, candidate):
            _check_tip(record, session)
        found = run_confirmation(
            record,
            lab.executor,
            session,
            lab.config,
            reference=reference,
            candidate=candidate,
            num_trials=num_trials,
            kind=kind_of(options, session, reference, candidate),
            budget_seconds=options.minutes * 60 if options.minutes else None,
            changes=options.changes,
            stop=stop,
            emit=emit,
        )
        return [found] if found is not None else []


def _nothing_kept(session: Session) -> UsageError:
    return UsageError(
        f"session `{session.tag}` has kept nothing that could be confirmed",
        hint="let it find something first: `autoresearch run`; any two experiments can be compared by number",
    )


def _check_tip(record: Record, session: Session) -> None:
    """Refuse to confirm as the best what is no longer on the branch: a revert or a commit came after it."""
    if record.tip() != session.experiment(session.best).commit:
        raise UsageError(
            f"`{record.branch}` has changed since its best, #{session.best}, was measured",
            hint="measure it as it is now: `autoresearch run --experiments 1`",
        )


def kind_of(options: ConfirmOptions, session: Session, reference: int, candidate: int) -> str:
    """Return the kind under which a confirmation is stored."""
    if options.changes:
        return "larger"
    if options.minutes is not None:
        return "longer"
    return "session" if (reference, candidate) == (0, session.best) else "pair"
