"""Runs the trials of a confirmation and stores what they say; see `lab/confirmation.py` for the arithmetic.

Two or more versions of the program (arms) are trained on the same fresh seeds, in turns, and scored on the test
split. Every trial is in the journal before the next one starts, marked with the confirmation it belongs to, so an
interrupted confirmation goes on where it stopped. The loop never looks at these trials.
"""

import dataclasses
import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from autoresearch.config import Config
from autoresearch.errors import PrerequisiteError, UsageError
from autoresearch.events import Confirmed, Event, Phase, Progress, now
from autoresearch.faults import reach
from autoresearch.lab.belief import measure_noise
from autoresearch.lab.confirmation import (
    affordable_pairs,
    carry_over,
    confirm,
    fresh_seeds,
    trial_seconds_of,
)
from autoresearch.types import (
    Confirmation,
    Experiment,
    Outcome,
    Session,
    Setup,
    Split,
    TrialResult,
    TrialSpec,
)

if TYPE_CHECKING:
    from autoresearch.lab.assembly import Lab
    from autoresearch.lab.record import Record

Emit = Callable[[Event | Progress | Phase], None]
Number = int | float

MAX_TAINTED = 3
"""A trial tainted this often in a row is given up."""
MAX_FAILED = 2
"""An arm that failed this often ends the confirmation."""
NO_GAIN_BELOW = 0.5
"""`confirm --each` suggests to revert a change that helps with less than this probability."""


class Executor(Protocol):
    """Something that can run a trial."""

    def run(
        self,
        spec: TrialSpec,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> TrialResult:
        """Run one trial to its end and judge it."""
        ...


@dataclass(frozen=True)
class Arm:
    """One version of the program under test."""

    number: int
    """Experiment its trials are stored with."""
    files: Mapping[str, bytes]
    label: str


@dataclass(frozen=True)
class Conditions:
    """What all trials of a confirmation share."""

    setup: Setup
    split: Split
    identity: str
    """Marks its trials in the journal."""

    @property
    def budget_seconds(self) -> float:
        """Training time of each trial."""
        return self.setup.budget_seconds


@dataclass
class Bench:
    """Runs arms on seeds, one trial at a time."""

    record: "Record"
    executor: Executor
    conditions: Conditions
    stop: threading.Event
    emit: Emit
    noise_bpb: float
    """The audit of each trial is as sharp as this noise asks for."""
    results: dict[str, list[TrialResult]] = field(default_factory=dict)

    def run(self, arms: Sequence[Arm], seeds: Sequence[int], max_seconds: float | None) -> bool:
        """Train each arm on each seed, in turns; False if stopped before the end.

        Returns:
            True also when an arm failed too often or the time is over: what there is counts.
        """
        self._recover(arms)
        began, longest = time.monotonic(), 0.0
        for turn, seed in enumerate(seeds):
            left = None if max_seconds is None else max_seconds - (time.monotonic() - began)
            if left is not None and turn > 0 and left < longest:
                return True
            round_began = time.monotonic()
            for arm in arms if turn % 2 == 0 else arms[::-1]:
                if any(t.seed == seed for t in self.results[arm.label]):
                    continue
                detail = f"{arm.label}, seed {turn + 1} of {len(seeds)}"
                self.emit(Phase(name="confirm", detail=detail, number=arm.number))
                if not self._trial(arm, seed):
                    return False
                if sum(not t.ok for t in self.results[arm.label]) >= MAX_FAILED:
                    return True
            longest = max(longest, time.monotonic() - round_began)
        return True

    def _recover(self, arms: Sequence[Arm]) -> None:
        session = self.record.session()
        for arm in arms:
            self.results[arm.label] = [
                t.result
                for t in session.experiment(arm.number).trials
                if t.confirmation == self._mark(arm)
                and t.setup == self.conditions.setup.key
                and t.result.outcome is not Outcome.TAINTED
            ]

    def _mark(self, arm: Arm) -> str:
        return f"{self.conditions.identity}/{arm.label}"

    def _trial(self, arm: Arm, seed: int) -> bool:
        for _ in range(MAX_TAINTED):
            index = len(self.record.session().experiment(arm.number).trials)
            spec = TrialSpec(
                files=arm.files,
                seed=seed,
                budget_seconds=self.conditions.budget_seconds,
                split=self.conditions.split,
                audit=True,
                noise_bpb=self.noise_bpb,
                label=f"{self.record.tag}/{arm.number}-{index}",
            )
            started_at = now()

            def heard(progress: Progress) -> None:
                self.emit(dataclasses.replace(progress, number=arm.number))

            result = self.executor.run(spec, on_progress=heard, stop=self.stop)
            if self.stop.is_set():
                return False
            self.record.record_trial(
                arm.number,
                result,
                setup=self.conditions.setup.key,
                started_at=started_at,
                confirmation=self._mark(arm),
            )
            if result.outcome is not Outcome.TAINTED:
                break
        self.results[arm.label].append(result)
        return True


def run_confirmation(
    record: "Record",
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
        config: For the constants of the editable files that `changes` names.
        reference: Number of the experiment compared against.
        candidate: Number of the experiment in question.
        num_trials: Of each.
        kind: `session`, `pair`, `longer` or `larger`.
        budget_seconds: Training time of each trial; None: the session's.
        changes: Constants set in both, for `larger`.
        max_seconds: Start no further pair that would not end in this time; two are planned at least.
        stop: Set to end early: what was run stays recorded and counts when called again.
        emit: Told of phases and progress.

    Returns:
        None if stopped, or if fewer than two pairs were good; then an alert says why.

    Raises:
        PrerequisiteError: the session has no setup yet.
        UsageError: `changes` names a constant that a program does not have.
    """
    arms = [
        _arm(record, session.experiment(number), config, changes or {}, label)
        for number, label in ((reference, "reference"), (candidate, "candidate"))
    ]
    name = f"{kind}-{reference}-{candidate}"
    conditions = conditions_of(session, name, budget_seconds=budget_seconds, changes=changes)
    seeds = _seeds(session, conditions, num_trials, max_seconds)
    bench = Bench(record, executor, conditions, stop, emit, measure_noise(session).sd)
    if not bench.run(arms, seeds, max_seconds):
        return None
    note = ", ".join(f"{name}={value}" for name, value in (changes or {}).items())
    found = _conclude(record, bench, reference, candidate, ("reference", "candidate"), kind, note)
    if found is not None and kind == "session":
        _raise_alarm(record, found)
    return found


def run_each(
    record: "Record",
    executor: Executor,
    session: Session,
    config: Config,
    *,
    num_trials: int,
    max_seconds: float | None = None,
    stop: threading.Event,
    emit: Emit,
) -> list[Confirmation]:
    """Leave one kept change out at a time and compare each with the whole, on the test split.

    A change whose absence does no harm gets an alert that suggests to revert it. A change that others build on
    cannot be left out alone; an alert says so.

    Returns:
        One confirmation a change: reference is the best without it, told by its number; candidate is the best.
    """
    best = session.experiment(session.best)
    whole = _arm(record, best, config, {}, "best")
    arms = [whole]
    for experiment in session.kept:
        files = leave_out(record, best, experiment)
        if files is None:
            record.alert(
                f"#{experiment.number} cannot be left out alone: later changes build on it"
            )
        else:
            arms.append(Arm(experiment.number, files, f"without-{experiment.number}"))
    if len(arms) == 1:
        return []
    conditions = conditions_of(session, f"each-{best.number}")
    seeds = _seeds(session, conditions, num_trials, max_seconds, num_arms=len(arms))
    bench = Bench(record, executor, conditions, stop, emit, measure_noise(session).sd)
    if not bench.run(arms, seeds, max_seconds):
        return []
    found = []
    for arm in arms[1:]:
        note = f"best without #{arm.number}"
        pair = (arm.label, whole.label)
        confirmation = _conclude(record, bench, arm.number, best.number, pair, "each", note)
        if confirmation is None:
            continue
        found.append(confirmation)
        if confirmation.p_real < NO_GAIN_BELOW:
            record.alert(
                f"#{arm.number} does not carry the gain: without it the best measures"
                f" {-confirmation.delta:+.6f} on the {confirmation.split} split",
                f"autoresearch revert {arm.number}",
            )
    return found


def leave_out(
    record: "Record", best: Experiment, experiment: Experiment
) -> Mapping[str, bytes] | None:
    """Return the best's files without the change one kept experiment made, None if that collides."""
    files = dict(record.files(best.commit))
    made = record.files(experiment.commit)
    parents = record.repository.parents(experiment.commit)
    was = record.files(parents[0]) if parents else {}
    for path in record.editable():
        before, after = was.get(path), made.get(path)
        if before == after:
            continue
        if before is None or after is None or path not in files:
            return None
        merged = record.repository.merge3(after, files[path], before)
        if merged is None:
            return None
        files[path] = merged
    return files


def conditions_of(
    session: Session,
    name: str,
    *,
    split: Split = "test",
    budget_seconds: float | None = None,
    changes: Mapping[str, Number] | None = None,
) -> Conditions:
    """Return the conditions of the next confirmation of this name.

    Raises:
        PrerequisiteError: nothing was measured yet.
    """
    if session.setup is None:
        raise PrerequisiteError(
            f"session `{session.tag}` has measured nothing yet",
            hint="run it first: `autoresearch run`",
            kind="record",
        )
    setup = session.setup
    if budget_seconds is not None:
        setup = dataclasses.replace(setup, budget_seconds=float(budget_seconds))
    what = json.dumps([setup.key, split, sorted((changes or {}).items())])
    digest = hashlib.sha256(what.encode()).hexdigest()[:6]
    return Conditions(setup, split, f"{name}-{len(session.confirmations)}-{digest}")


def _seeds(
    session: Session,
    conditions: Conditions,
    num_trials: int,
    max_seconds: float | None,
    num_arms: int = 2,
) -> list[int]:
    """Return the seeds to use: fresh ones, but again those this confirmation began with."""
    used = {
        t.result.seed
        for e in session.experiments
        for t in e.trials
        if t.confirmation and not t.confirmation.startswith(conditions.identity + "/")
    }
    usual = trial_seconds_of(session)
    if usual is not None and session.setup is not None:
        usual += conditions.budget_seconds - session.setup.budget_seconds
        num_trials = max(2, affordable_pairs(max_seconds, usual, num_trials, num_arms=num_arms))
    return fresh_seeds(session.seed, num_trials, used)


def _arm(
    record: "Record",
    experiment: Experiment,
    config: Config,
    changes: Mapping[str, Number],
    label: str,
) -> Arm:
    files = dict(record.files(experiment.commit))
    if changes:
        files |= with_constants(files, config.task.editable, changes, experiment.number)
    return Arm(experiment.number, files, label)


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
    from autoresearch.proposer.constants import parse, replace

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


def _conclude(
    record: "Record",
    bench: Bench,
    reference: int,
    candidate: int,
    labels: tuple[str, str],
    kind: str,
    note: str,
) -> Confirmation | None:
    ours, theirs = (bench.results[label] for label in labels)
    try:
        found = confirm(
            ours,
            theirs,
            reference=reference,
            candidate=candidate,
            setup=bench.conditions.setup.key,
            at=now(),
            budget_seconds=bench.conditions.budget_seconds,
            kind=kind,
            note=note,
        )
    except ValueError as exc:
        reasons = sorted({t.reason for t in (*ours, *theirs) if not t.ok and t.reason})
        why = f"{exc}" + (f" ({', '.join(reasons)})" if reasons else "")
        record.alert(f"#{candidate} is not confirmed: {why}", "autoresearch confirm")
        return None
    record.append(Confirmed(confirmation=dataclasses.asdict(found)))
    reach("confirmed")
    return found


def _raise_alarm(record: "Record", found: Confirmation) -> None:
    seen = carry_over(record.session(), found)
    if seen.is_alarm:
        record.alert(
            f"the gain on validation does not carry over: {seen.validation_delta:+.6f} there,"
            f" {found.delta:+.6f} [{found.low:+.6f}, {found.high:+.6f}] on the test split",
            "autoresearch confirm --each",
        )
    elif found.low > 0:
        record.alert(
            f"#{found.candidate} is worse than #{found.reference} on the test split:"
            f" {found.delta:+.6f} [{found.low:+.6f}, {found.high:+.6f}]",
            "autoresearch confirm --each",
        )


@dataclass(frozen=True)
class ConfirmOptions:
    """What a person asked of one `confirm`."""

    reference: str = "baseline"
    candidate: str = "best"
    num_trials: int | None = None
    """Of each; None: as configured."""
    is_each: bool = False
    minutes: float | None = None
    """Training time of each trial instead of the session's."""
    changes: Mapping[str, Number] = field(default_factory=dict)


def confirm_session(
    lab: "Lab",
    record: "Record",
    options: ConfirmOptions,
    *,
    emit: Emit,
    stop: threading.Event,
) -> list[Confirmation]:
    """Confirm what a person asked for, at any time between two runs.

    Returns:
        What was found; empty if stopped, or if nothing could be compared (then an alert is recorded).

    Raises:
        UsageError: the two are the same, nothing was kept, or a constant is unknown.
        PrerequisiteError: the machine is not the one the session was measured on, or is in use.
    """
    from autoresearch.lab.assembly import lock_device
    from autoresearch.lab.running import check_setup, recall

    num_trials = options.num_trials or lab.config.session.confirm_trials or 4
    with record.lock(), lock_device(lab.hardware, lab.run_directory):
        session = record.session()
        check_setup(session, lab, is_rebaseline=False)
        lab = recall(lab, session)
        if not session.kept:
            raise UsageError(
                f"session `{session.tag}` has kept nothing that could be confirmed",
                hint="let it find something first: `autoresearch run`",
            )
        if options.is_each:
            return run_each(
                record,
                lab.executor,
                session,
                lab.config,
                num_trials=num_trials,
                stop=stop,
                emit=emit,
            )
        reference = record.resolve(options.reference).number
        candidate = record.resolve(options.candidate).number
        if reference == candidate:
            raise UsageError(
                f"`{options.reference}` and `{options.candidate}` are the same experiment",
                hint="compare two: `autoresearch confirm baseline best`",
            )
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


def kind_of(options: ConfirmOptions, session: Session, reference: int, candidate: int) -> str:
    """Return the kind under which a confirmation is stored."""
    if options.changes:
        return "larger"
    if options.minutes is not None:
        return "longer"
    return "session" if (reference, candidate) == (0, session.best) else "pair"


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
