"""Runs several variants (arms) on the same fresh seeds, interleaved, and records each trial.

A trial is in the journal before the next one starts, marked with the confirmation it belongs to, so an interrupted
confirmation continues where it stopped. The loop never looks at these trials.
"""

import dataclasses
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from autoresearch.decision.belief import measure_noise
from autoresearch.decision.confirmation import LEFT_OUT, MIN_PAIRS, affordable_pairs, is_apart
from autoresearch.decision.pace import recorded
from autoresearch.decision.scores import trial_seed
from autoresearch.errors import PrerequisiteError
from autoresearch.events import Phase, Progress, now
from autoresearch.machine.load import Meter
from autoresearch.record.record import Record
from autoresearch.session.context import Emit, Stop
from autoresearch.session.trials import with_load
from autoresearch.tasks.task import Executor
from autoresearch.types import CASES_SEED, Outcome, Purpose, Session, Setup, TrialResult, TrialSpec

Number = int | float

draw_seed: Callable[[], int] = partial(secrets.randbelow, 2**31)
"""Gives the seeds of confirmations."""
MAX_FAILED = 2
"""An arm that failed this often ends the confirmation."""


@dataclass(frozen=True)
class Arm:
    """One version of the program under test."""

    number: int
    """Experiment its trials are stored with."""
    files: Mapping[str, bytes]
    label: str
    """Marks its trials."""

    @property
    def text(self) -> str:
        """The label as shown: `#14`, `without #14`."""
        return f"without #{self.number}" if self.label.startswith(LEFT_OUT) else f"#{self.number}"


@dataclass
class Bench:
    """Runs arms on seeds, one trial at a time."""

    record: Record
    executor: Executor
    stop: Stop
    emit: Emit
    setup: Setup
    """Of all its trials; they are scored on the test split."""
    identity: str
    """Marks its trials in the journal."""
    noise: float
    """The audit of each trial is as sharp as this noise asks for."""
    results: dict[str, list[TrialResult]] = field(default_factory=dict)

    def run(
        self,
        arms: Sequence[Arm],
        num_trials: int,
        max_seconds: float | None,
        is_settled: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train each arm on each of `num_trials` seeds, in turns; False if stopped before the end.

        A seed on which the arms ran at paces that differ is run once more, and the later trials count: nothing of their
        scores enters this. After each seed `is_settled` is asked whether the rest is needed.

        Returns:
            True also when an arm failed too often or the time is over: what there is counts.
        """
        session = self.record.session()
        self.results = {arm.label: self._recorded(session, arm) for arm in arms}
        seeds = self._seeds(session, num_trials, max_seconds, len(arms))
        began, longest, paused = time.monotonic(), 0.0, 0.0
        num_ready = sum(len(results) for results in self.results.values())
        num_run, num_all = 0, len(arms) * len(seeds)
        for turn, seed in enumerate(seeds):
            left = None if max_seconds is None else max_seconds - (time.monotonic() - began)
            if left is not None and turn >= MIN_PAIRS and left < longest:
                return True
            round_began = time.monotonic() - paused
            order = list(arms if turn % 2 == 0 else arms[::-1])
            for again, arm in [(0, arm) for arm in order] + [(1, arm) for arm in order[::-1]]:
                if self._num_on(arm, seed) > again or (again and not self._is_apart(arms, seed)):
                    continue
                num_all += again
                paused += self._check_requests()
                if self.stop.event.is_set():
                    return False
                detail = f"{num_ready + num_run + 1} of {num_all}: {arm.text}, seed {turn + 1}"
                if num_run:
                    usual = (time.monotonic() - began - paused) / num_run
                    rest = (num_all - num_ready - num_run) * usual
                    detail += (
                        f", about {rest / 60:.0f} min left"
                        if rest >= 90
                        else f", about {rest:.0f} s left"
                    )
                self._say(Phase(name="confirm", detail=detail, number=arm.number))
                if not self._trial(arm, seed, seeds[seed], arms[0]):
                    return False
                num_run += 1
                if sum(not t.ok for t in self.results[arm.label]) >= MAX_FAILED:
                    return True
            longest = max(longest, time.monotonic() - paused - round_began)
            if is_settled():
                return True
        return True

    def _num_on(self, arm: Arm, seed: int) -> int:
        return sum(t.seed == seed for t in self.results[arm.label])

    def _is_apart(self, arms: Sequence[Arm], seed: int) -> bool:
        """Whether the first trials of a seed, all good, ran at paces that differ."""
        first = [
            next(t for t in self.results[arm.label] if t.seed == seed)
            for arm in arms
            if self._num_on(arm, seed)
        ]
        if len(first) < len(arms) or not all(t.ok for t in first):
            return False
        return any(is_apart(first[0], other) for other in first[1:])

    def _check_requests(self) -> float:
        """Act on requests between two trials; return the seconds that took."""
        began, paused = time.monotonic(), Phase(name="wait", detail="paused")
        self.stop.wait_while_paused(lambda: self._say(paused))
        return time.monotonic() - began

    def _say(self, phase: Phase) -> None:
        self.record.presence.tell(phase)
        self.emit(phase)

    def _recorded(self, session: Session, arm: Arm) -> list[TrialResult]:
        return [
            t.result
            for t in session.experiment(arm.number).trials
            if t.confirmation == self._mark(arm)
            and t.setup == self.setup.key
            and t.result.outcome is not Outcome.TAINTED
        ]

    def _seeds(
        self, session: Session, num_trials: int, max_seconds: float | None, num_arms: int
    ) -> dict[int, int]:
        """Return the seeds to use and the part of the text of each: those it began with, then fresh ones.

        Nothing of the session tells a fresh one: it is drawn from the system's entropy once what is compared is
        frozen, and stands in the record with its first trial.
        """
        run = [t for e in session.experiments for t in e.trials if t.confirmation]
        run.sort(key=lambda t: t.place)
        parts = {seed: i for i, seed in enumerate(dict.fromkeys(t.result.seed for t in run))}
        begun = [t.result.seed for t in run if t.confirmation.startswith(self.identity + "/")]
        found = {seed: parts[seed] for seed in dict.fromkeys(begun)}
        taken = parts.keys() | {trial_seed(session.seed, i) for i in range(64)}
        usual = session.trial_seconds
        if usual is not None and session.setup is not None:
            usual += self.setup.budget_seconds - session.setup.budget_seconds
            num = affordable_pairs(max_seconds, usual, num_trials, num_arms=num_arms)
            num_trials = max(MIN_PAIRS, num)
        while len(found) < num_trials:
            seed = draw_seed()
            if seed not in taken and seed not in found:
                found[seed] = len(parts) + sum(seed not in parts for seed in found)
        return found

    def _mark(self, arm: Arm) -> str:
        return f"{self.identity}/{arm.label}"

    def _trial(self, arm: Arm, seed: int, part: int, first: Arm) -> bool:
        """Run an arm on a seed; where the task compares case by case, beside the first arm."""
        tried: list[TrialResult] = []
        known = (t for trials in self.results.values() for t in trials if t.seed == seed)
        cases_seed = next((t.extra[CASES_SEED] for t in known if CASES_SEED in t.extra), None)
        while not tried or tried[-1].outcome is Outcome.TAINTED:
            index = len(self.record.session().experiment(arm.number).trials)
            spec = TrialSpec(
                files=arm.files,
                seed=seed,
                budget_seconds=self.setup.budget_seconds,
                split="test",
                part=part,
                purpose=Purpose.CONFIRM,
                noise=self.noise,
                reference=first.files if arm is not first else None,
                cases_seed=cases_seed,
                number=arm.number,
                label=f"{self.record.tag}/{arm.number}-{index}",
            )
            started_at, meter = now(), Meter()

            def heard(progress: Progress, meter: Meter = meter) -> None:
                self.stop.is_now()
                meter.hear(progress)
                self.emit(progress)

            result = self.executor.run(spec, on_progress=heard, stop=self.stop.event)
            if self.stop.event.is_set():
                return False
            result = recorded(with_load(result, meter), tried)
            self.record.record_trial(
                arm.number,
                result,
                setup=self.setup.key,
                started_at=started_at,
                confirmation=self._mark(arm),
                purpose=Purpose.CONFIRM,
            )
            tried.append(result)
        self.results[arm.label].append(tried[-1])
        return True


def make_bench(
    record: Record,
    executor: Executor,
    session: Session,
    name: str,
    index: int,
    *,
    stop: threading.Event,
    emit: Emit,
    budget_seconds: float | None = None,
    changes: Mapping[str, Number] | None = None,
) -> Bench:
    """Return the bench of a confirmation.

    `name` is of its question and `index` how often that was answered already: an interrupted confirmation continues,
    a finished one does not. The other arguments are those of `run_confirmation`.

    Raises:
        PrerequisiteError: nothing was measured yet.
    """
    setup = session.setup
    if setup is None:
        raise PrerequisiteError(
            f"session `{session.tag}` has measured nothing yet",
            hint="run it first: `autoresearch run`",
            kind="record",
        )
    if budget_seconds is not None:
        setup = dataclasses.replace(setup, budget_seconds=float(budget_seconds))
    what = json.dumps([setup.key, "test", sorted((changes or {}).items())])
    digest = hashlib.sha256(what.encode()).hexdigest()[:6]
    return Bench(
        record,
        executor,
        Stop(record.run_directory, stop),
        emit,
        setup,
        f"{name}-{index}-{digest}",
        measure_noise(session).sd,
    )
