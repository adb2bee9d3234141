"""Which trials are hopeless while they run, and which measured something else than their code.

Pure predicates over what the lab itself counts (tokens served, seconds) and what the child reports. A report may
end a trial early; it never gives a verdict in its favour.

Not finite and diverging losses end a trial in the trial room, where every logged value passes. Here is what needs
the incumbent to compare with: a collapse of throughput, and a machine that was shared or slowed.

Trade-off: no pruning by loss curves. On this task better candidates are often behind until late, and the best
case is a twentieth to a fifth more experiments; `Kill` is the seam for it.
"""

import threading
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

from autoresearch.decision.scores import good_results
from autoresearch.events import Progress
from autoresearch.types import Experiment, Outcome, TrialResult

COLLAPSE_SHARE = 0.25
"""Of the incumbent's tokens per second, below which training is hopeless."""
COLLAPSE_AFTER = 0.15
"""Share of the budget that must be over before throughput is judged."""
SPEED_TOLERANCE = 0.01
"""Relative difference in tokens per second that luck does not explain: worth one sigma of the score."""
CONTENDED_SHARE = 0.15
"""Part of the incumbent's tokens per second by which an alike trial may fall short before it is repeated."""
SAME_MEMORY = 0.02
STEADY = 3
"""Trials of one experiment, the latest, that its speed is taken from: so many at another pace make that its speed."""


@dataclass(frozen=True)
class Kill:
    """A trial that should end now."""

    reason: str
    detail: str
    seconds_saved: float
    """Of the budget, not spent."""
    tokens_per_second: float


def speed_of(experiment: Experiment, setup: str) -> float | None:
    """Return the median tokens per second of an experiment's latest trials that count."""
    known = _speeds(experiment, setup)
    return median(known) if known else None


def _speeds(experiment: Experiment, setup: str) -> list[float]:
    known = [t.tokens_per_second for t in good_results(experiment, setup) if t.tokens_per_second]
    return known[-STEADY:]


def collapse(progress: Progress, reference_tokens_per_second: float | None) -> Kill | None:
    """Return why the trial should end now, None if it may continue; without a reference it may."""
    if progress.phase != "train" or not reference_tokens_per_second:
        return None
    if progress.seconds < COLLAPSE_AFTER * progress.budget_seconds or progress.seconds <= 0:
        return None
    speed = progress.num_tokens / progress.seconds
    share = speed / reference_tokens_per_second
    if share >= COLLAPSE_SHARE:
        return None
    return Kill(
        "slow",
        f"{share:.0%} of the incumbent's tokens per second after"
        f" {progress.seconds / progress.budget_seconds:.0%} of the budget",
        max(progress.budget_seconds - progress.seconds, 0.0),
        speed,
    )


def killed(result: TrialResult, kill: Kill) -> TrialResult:
    """Return the result of a trial that was stopped by `kill`: tainted, as the machine may be what is slow."""
    return replace(
        result,
        outcome=Outcome.TAINTED,
        reason=kill.reason,
        detail=f"{kill.detail}; {kill.seconds_saved:.0f} s saved",
        score=None,
        tokens_per_second=kill.tokens_per_second,
        extra={**result.extra, "seconds_saved": round(kill.seconds_saved, 1)},
    )


def is_slow(result: TrialResult) -> bool:
    """Whether a trial was ended for its speed."""
    return result.outcome is Outcome.TAINTED and result.reason == "slow"


class TrialStop(threading.Event):
    """Set for one trial alone, and whenever the whole session is stopped."""

    def __init__(self, session_stop: threading.Event) -> None:
        super().__init__()
        self._session_stop = session_stop

    def is_set(self) -> bool:
        """Whether the trial should end."""
        return super().is_set() or self._session_stop.is_set()


class Watch:
    """Watches one trial and stops it when it has become hopeless.

    Give `stop` and `hear` to the executor and pass its result through `settle`:

        watch = Watch(session_stop, speed_of(incumbent, setup))
        result = watch.settle(executor.run(spec, on_progress=watch.hear, stop=watch.stop))
    Where the session is stopped meanwhile, nothing is settled.
    """

    def __init__(
        self,
        session_stop: threading.Event,
        reference_tokens_per_second: float | None,
    ) -> None:
        self.stop = TrialStop(session_stop)
        self.kill: Kill | None = None
        self._session_stop = session_stop
        self._reference = reference_tokens_per_second

    def hear(self, progress: Progress) -> None:
        """Take note of progress; sets `stop` once it is hopeless."""
        if self.kill is None:
            self.kill = collapse(progress, self._reference)
            if self.kill is not None:
                self.stop.set()

    def settle(self, result: TrialResult) -> TrialResult:
        """Return the result with the reason it was stopped for, if it was stopped here."""
        if self.kill is None or result.outcome is not Outcome.TAINTED:
            return result
        return result if self._session_stop.is_set() else killed(result, self.kill)


def speed_mark(candidate: Experiment, incumbent: Experiment, setup: str) -> str:
    """Return a sentence if the candidate ran faster or slower than its code explains, else "".

    The same number of parameters, tokens a step and memory are taken to mean that the change has nothing to do
    with speed. What the incumbent's own trials vary by is tolerated where it is more than 1 %.
    """
    ours, usual = speed_of(candidate, setup), _usual(incumbent, setup)
    if not ours or not usual or not _is_alike(good_results(candidate, setup)[-1], usual.last):
        return ""
    change = ours / usual.speed - 1
    if abs(change) <= max(SPEED_TOLERANCE, 2 * usual.spread):
        return ""
    return f"tokens/s {change:+.1%} from the incumbent's without a cause in the change: was the machine shared?"


def is_contended(result: TrialResult, incumbent: Experiment, setup: str) -> bool:
    """Whether a trial ran so much slower than the incumbent's alike ones that it measured the machine.

    `CONTENDED_SHARE`, or three times what the incumbent's own trials vary by where that is more.
    """
    usual = _usual(incumbent, setup)
    if not result.ok or not result.tokens_per_second or not usual:
        return False
    short = 1 - result.tokens_per_second / usual.speed
    return _is_alike(result, usual.last) and short > max(CONTENDED_SHARE, 3 * usual.spread)


class _Usual(NamedTuple):
    last: TrialResult
    speed: float
    spread: float
    """Of the latest trials, relative to `speed`."""


def _usual(experiment: Experiment, setup: str) -> _Usual | None:
    """Return how fast an experiment's latest trials that count were; None where none says it."""
    speeds = _speeds(experiment, setup)
    if not speeds:
        return None
    speed = median(speeds)
    return _Usual(good_results(experiment, setup)[-1], speed, (max(speeds) - min(speeds)) / speed)


def _is_alike(a: TrialResult, b: TrialResult) -> bool:
    if a.num_params != b.num_params:
        return False
    if a.num_tokens and b.num_tokens and a.num_steps and b.num_steps:
        ours, theirs = a.num_tokens / a.num_steps, b.num_tokens / b.num_steps
        if abs(ours / theirs - 1) > 1e-6:
            return False
    if a.peak_memory_mb and b.peak_memory_mb:
        return abs(a.peak_memory_mb / b.peak_memory_mb - 1) <= SAME_MEMORY
    return True
