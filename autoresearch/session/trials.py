"""Trials of the loop: what is run with which seed and audit, how it is recorded, where the time went."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from autoresearch.decision.belief import measure_noise
from autoresearch.decision.pace import BESIDE, recorded
from autoresearch.decision.rule import anchor_of, keep_threshold
from autoresearch.decision.scores import LOAD, trial_seed
from autoresearch.decision.throughput import Watch, speed_of
from autoresearch.events import Progress, now
from autoresearch.machine.load import Meter
from autoresearch.session.context import Parts
from autoresearch.types import (
    FIGURES,
    NUM_CASES,
    REFERENCE_SCORE,
    Experiment,
    Outcome,
    Purpose,
    Session,
    Trial,
    TrialResult,
    TrialSpec,
    Verdict,
)
from autoresearch.util.killpoints import reach

STATUS_SECONDS = 2.0
AUDIT_SHARE = 0.1
"""Share of trials that are audited although they would not be kept."""
_COMPARED = (Purpose.CANDIDATE, Purpose.RETEST, Purpose.ALARM, Purpose.CHECK)
"""Trials that end early where they are far slower than the incumbent."""


class Trials:
    """Runs one trial at a time and records it.

    Calls `before` before a trial, and `meanwhile` with its experiment's number now and then while it runs.
    """

    def __init__(
        self, parts: Parts, before: Callable[[], None], meanwhile: Callable[[int], None]
    ) -> None:
        self._parts = parts
        self._record = parts.record
        self._config = parts.config
        self._before = before
        self._meanwhile = meanwhile
        self._random = random.SystemRandom()
        self._last_status = 0.0

    def run(self, experiment: Experiment, purpose: Purpose, beside: str = "") -> None:
        """Run and record one more trial of an experiment.

        Args:
            experiment: What to run.
            purpose: Why; `INCUMBENT` becomes `BASELINE` where no proposer wrote any of its code.
            beside: The slow trial of a candidate that this one, of the incumbent, is compared with.
        """
        self._before()
        session = self._record.session()
        if purpose is Purpose.INCUMBENT and not _has_kept(session):
            purpose = Purpose.BASELINE
        trials = self.counted(experiment)
        incumbent = self._parts.incumbent(session)
        spec = self._spec(experiment, session, purpose, incumbent)
        self._parts.phase("trial", experiment.description, experiment.number)
        started_at = now()
        began = time.monotonic()
        usual = None
        if incumbent is not None and purpose in _COMPARED:
            usual = speed_of(incumbent, self._parts.setup.key)
        watch, meter = Watch(self._parts.stop.event, usual), Meter()

        def heard(progress: Progress) -> None:
            meter.hear(progress)
            watch.hear(progress)

        result = self._parts.executor.run(
            spec, on_progress=self._on_progress(experiment, heard), stop=watch.stop
        )
        self._account(result, time.monotonic() - began)
        self._parts.stop.check()
        result = with_load(watch.settle(result), meter)
        if beside:
            result = replace(result, extra={**result.extra, BESIDE: beside})
        result = recorded(
            result,
            [t.result for t in trials],
            None if purpose.is_of_tip else incumbent,
            self._parts.setup.key,
        )
        self._record.record_trial(
            experiment.number,
            result,
            setup=self._parts.setup.key,
            started_at=started_at,
            purpose=purpose,
        )
        reach("trial_stored")

    def _spec(
        self,
        experiment: Experiment,
        session: Session,
        purpose: Purpose,
        incumbent: Experiment | None,
    ) -> TrialSpec:
        config = self._config
        best = incumbent.score if incumbent is not None else None
        trials = self.counted(experiment)
        num_counted = sum(t.result.outcome is not Outcome.TAINTED for t in trials)
        is_audited = purpose is not Purpose.CANDIDATE or self._random.random() < AUDIT_SHARE
        return TrialSpec(
            files=self._record.files(experiment.commit),
            seed=trial_seed(session.seed, num_counted),
            budget_seconds=config.trial.budget_seconds,
            purpose=purpose,
            audit_below=None if is_audited else keep_threshold(session, config.decision),
            noise=None if best is None else measure_noise(session).sd,
            incumbent_score=best,
            **self._beside(experiment, session, incumbent),
            number=experiment.number,
            label=label_of(experiment, session.tag, len(experiment.trials)),
            keep_weights=config.trial.save_weights != "none",
        )

    def _beside(
        self, experiment: Experiment, session: Session, incumbent: Experiment | None
    ) -> dict[str, Any]:
        """Return what a task that compares case by case needs of the incumbent and of the baseline.

        Trials of a first baseline are compared with its files too: so their spread is what such a comparison errs by.
        """
        key, beside = self._parts.setup.key, incumbent or experiment
        anchor = None
        if self._config.task.paired:
            good = [t for t in experiment.trials if t.counts(key)]
            anchor = _last(good[:1], REFERENCE_SCORE, key)
            if incumbent is not None:
                anchor = anchor_of(session, incumbent, self._config.decision)
        baseline = next((e for e in session.experiments if e.setup == key or e is experiment), None)
        return {
            "reference": self._record.files(beside.commit),
            "anchor": anchor,
            "num_cases": _last(beside.trials, NUM_CASES, key),
            "guarded": (_last(baseline.trials, FIGURES, key) if baseline else None) or {},
        }

    def _on_progress(
        self, experiment: Experiment, look: Callable[[Progress], None]
    ) -> Callable[[Progress], None]:
        def heard(progress: Progress) -> None:
            self._parts.emit(progress)
            clock = time.monotonic()
            if clock - self._last_status >= STATUS_SECONDS:
                self._last_status = clock
                self._record.presence.tell(progress)
            look(progress)
            self._meanwhile(experiment.number)

        return heard

    def counted(self, experiment: Experiment) -> list[Trial]:
        """Return the trials of the loop under the present setup; confirmations are no part of it."""
        return [t for t in experiment.trials if t.is_of_loop(self._parts.setup.key)]

    def _account(self, result: TrialResult, seconds: float) -> None:
        known = 0.0
        for kind, part in (
            ("startup", result.startup_seconds),
            ("train", result.train_seconds),
            ("judge", result.judge_seconds),
        ):
            self._parts.stop.clock.add(kind, part)
            known += part or 0.0
        self._parts.stop.clock.add("other", max(0.0, seconds - known))


def with_load(result: TrialResult, meter: Meter) -> TrialResult:
    """Return the result with what others took of the machine while it trained, as far as that was counted."""
    load = meter.load()
    if load is None:
        return result
    shares = {name: round(share, 5) for name, share in vars(load).items()}
    return replace(result, extra={**result.extra, LOAD: shares})


def _last(trials: Sequence[Trial], name: str, setup: str) -> Any:
    """Return a figure of the last of the trials that counts; None where there is none."""
    known = (
        t.result.extra[name] for t in reversed(trials) if t.counts(setup) and name in t.result.extra
    )
    return next(known, None)


def _has_kept(session: Session) -> bool:
    """Whether a proposer wrote some of the code at the tip; reverted or not."""
    return any(
        e.verdict is Verdict.KEEP and e.proposer not in ("baseline", "human")
        for e in session.experiments
    )


def label_of(experiment: Experiment, tag: str, index: int | None = None) -> str:
    """Return the label of a trial of an experiment; by default of its last one."""
    number = len(experiment.trials) - 1 if index is None else index
    return f"{tag}/{experiment.number}-{number}"
