"""Trials of the loop: what is run with which seed and audit, how it is recorded, where the time went."""

import random
import time
from collections.abc import Callable
from dataclasses import replace

from autoresearch.decision import rule
from autoresearch.decision.pace import BESIDE, recorded
from autoresearch.decision.throughput import Watch, speed_of
from autoresearch.events import Progress, now
from autoresearch.session.context import Parts
from autoresearch.types import Experiment, Outcome, Session, Trial, TrialResult, TrialSpec, Verdict
from autoresearch.util.killpoints import reach

STATUS_SECONDS = 2.0
AUDIT_SHARE = 0.1
"""Share of trials that are audited although they would not be kept."""


class Trials:
    """Runs one trial at a time and records it.

    Args:
        parts: The loop's.
        before: Called before a trial: requests are handled there.
        meanwhile: Called now and then while a trial runs, with its experiment's number: the proposer is served there.
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

    def run(
        self, experiment: Experiment, *, audit: bool = False, beside: str = "", whole: bool = False
    ) -> None:
        """Run and record one more trial of an experiment.

        Args:
            experiment: What to run.
            audit: Audit it whatever it claims.
            beside: The slow trial of a candidate that this one, of the incumbent, is compared with.
            whole: Run it to its end, at whatever pace.
        """
        self._before()
        session = self._record.session()
        trials = self.counted(experiment)
        index = len(experiment.trials)
        counted = sum(t.result.outcome is not Outcome.TAINTED for t in trials)
        spec = self._spec(experiment, session, counted, index, audit=audit)
        self._parts.phase("trial", experiment.description, experiment.number)
        started_at = now()
        began = time.monotonic()
        usual = None if whole else self._usual_speed(experiment, session, is_check=bool(beside))
        watch = Watch(self._parts.stop, usual)
        result = self._parts.executor.run(
            spec, on_progress=self._on_progress(experiment, watch), stop=watch.stop
        )
        self._account(result, time.monotonic() - began)
        self._parts.check_stop()
        result = watch.settle(result)
        if beside:
            result = replace(result, extra={**result.extra, BESIDE: beside})
        incumbent = None if beside else self._parts.incumbent(session)
        result = recorded(result, [t.result for t in trials], incumbent, self._parts.setup.key)
        self._record.record_trial(
            experiment.number, result, setup=self._parts.setup.key, started_at=started_at
        )
        reach("trial_stored")

    def _spec(
        self, experiment: Experiment, session: Session, counted: int, index: int, *, audit: bool
    ) -> TrialSpec:
        config = self._config
        incumbent = self._parts.incumbent(session)
        best = incumbent.val_bpb if incumbent is not None else None
        is_tip = experiment.commit == self._record.tip()
        return TrialSpec(
            files=self._record.files(experiment.commit),
            seed=rule.trial_seed(session.seed, counted),
            budget_seconds=config.trial.budget_seconds,
            audit_below=rule.keep_threshold(session, config.decision),
            audit=audit or is_tip or self._random.random() < AUDIT_SHARE,
            noise_bpb=None if best is None else rule.measure_noise(session).sd,
            suspicious_below=None if best is None else best * (1 - config.judge.suspicious_jump),
            number=experiment.number,
            label=label_of(experiment, session.tag, index),
            keep_weights=config.trial.save_weights != "none",
            keep_cache=is_tip,
            is_baseline=is_tip and not _has_kept(session),
        )

    def _usual_speed(
        self, experiment: Experiment, session: Session, *, is_check: bool
    ) -> float | None:
        """Return the incumbent's tokens per second, for another experiment or a check to be compared with."""
        incumbent = self._parts.incumbent(session)
        if incumbent is None or (incumbent.number == experiment.number and not is_check):
            return None
        return speed_of(incumbent, self._parts.setup.key)

    def _on_progress(self, experiment: Experiment, watch: Watch) -> Callable[[Progress], None]:
        def heard(progress: Progress) -> None:
            self._parts.emit(progress)
            clock = time.monotonic()
            if clock - self._last_status >= STATUS_SECONDS:
                self._last_status = clock
                self._record.presence.tell(progress)
            watch.hear(progress)
            self._meanwhile(experiment.number)

        return heard

    def counted(self, experiment: Experiment) -> list[Trial]:
        """Return the trials of the loop under the present setup; confirmations are no part of it."""
        return [
            t for t in experiment.trials if t.setup == self._parts.setup.key and not t.confirmation
        ]

    def _account(self, result: TrialResult, seconds: float) -> None:
        known = 0.0
        for kind, part in (
            ("startup", result.startup_seconds),
            ("train", result.train_seconds),
            ("judge", result.judge_seconds),
        ):
            self._parts.clock.add(kind, part)
            known += part or 0.0
        self._parts.clock.add("other", max(0.0, seconds - known))


def _has_kept(session: Session) -> bool:
    """Whether a proposer wrote some of the code at the tip; reverted or not, that is not told apart."""
    return any(
        e.verdict is Verdict.KEEP and e.proposer not in ("baseline", "human")
        for e in session.experiments
    )


def label_of(experiment: Experiment, tag: str, index: int | None = None) -> str:
    """Return the label of a trial of an experiment; by default of its last one."""
    number = len(experiment.trials) - 1 if index is None else index
    return f"{tag}/{experiment.number}-{number}"
