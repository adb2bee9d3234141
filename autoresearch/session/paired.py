"""Runs several variants (arms) on the same fresh seeds, interleaved, and records each trial.

A trial is in the journal before the next one starts, marked with the confirmation it belongs to, so an interrupted
confirmation continues where it stopped. The loop never looks at these trials.
"""

import dataclasses
import hashlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoresearch.decision.confirmation import LEFT_OUT, MIN_PAIRS, affordable_pairs, fresh_seeds
from autoresearch.decision.pace import recorded
from autoresearch.decision.replay import measure_noise
from autoresearch.errors import PrerequisiteError
from autoresearch.events import Phase, Progress, now
from autoresearch.execution import Executor
from autoresearch.record.record import Record
from autoresearch.session.context import Emit, Stop
from autoresearch.types import CASES_SEED, Outcome, Purpose, Session, Setup, TrialResult, TrialSpec

Number = int | float

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

    def run(self, arms: Sequence[Arm], num_trials: int, max_seconds: float | None) -> bool:
        """Train each arm on each of `num_trials` seeds, in turns; False if stopped before the end.

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
            for arm in arms if turn % 2 == 0 else arms[::-1]:
                if any(t.seed == seed for t in self.results[arm.label]):
                    continue
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
        return True

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
        """Return the seeds to use and the part of the text of each: fresh ones, but again those it began with."""
        used = {
            t.result.seed
            for e in session.experiments
            for t in e.trials
            if t.confirmation and not t.confirmation.startswith(self.identity + "/")
        }
        usual = session.trial_seconds
        if usual is not None and session.setup is not None:
            usual += self.setup.budget_seconds - session.setup.budget_seconds
            num = affordable_pairs(max_seconds, usual, num_trials, num_arms=num_arms)
            num_trials = max(MIN_PAIRS, num)
        return fresh_seeds(session.seed, num_trials, used)

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
            started_at = now()

            def heard(progress: Progress) -> None:
                self.stop.is_now()
                self.emit(progress)

            result = self.executor.run(spec, on_progress=heard, stop=self.stop.event)
            if self.stop.event.is_set():
                return False
            result = recorded(result, tried)
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
