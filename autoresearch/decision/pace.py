"""The rule of which trials are run again: `recorded` for all, `next_step` for those that were ended for their speed.

A slow trial may show a slow candidate or a slow machine; the incumbent tells which. Pure: what comes next is read from
the recorded trials alone, so that a killed lab finds its way back to it. A trial of the incumbent that was run for
such a question carries the number and the index of the slow trial in `extra`. The one retry that is not here is
`judge.run`'s, within a trial: a judging process that ended and nothing says why is asked once more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from autoresearch.decision.throughput import COLLAPSE_SHARE, STEADY, is_contended, is_slow
from autoresearch.types import Experiment, Outcome, TrialResult

MAX_TAINTED = 3
"""A trial that is tainted this often in a row is given up."""
BESIDE = "beside"
"""Key in `TrialResult.extra`: the slow trial (`12-0`) that this trial of the incumbent is held against."""
CHECK_HOLDS = 4
"""Experiments, by number, that one check of the incumbent at its usual speed answers for."""
PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Between checks while the machine is slow, in training budgets of a trial; then its pace counts as the new one."""


@dataclass(frozen=True)
class Step:
    """What comes next for a candidate."""

    what: Literal["try", "check", "wait", "measure", "final"]
    """`try`: judge or run it as usual; `check`: run the incumbent; `wait`, then check; `measure`: run the incumbent
    to its end at whatever pace; `final`: the candidate is too slow."""
    beside: str = ""
    pause: float = 0.0
    """In training budgets."""
    tokens_per_second: float | None = None
    """Of the newest check."""


def recorded(
    result: TrialResult,
    earlier: Sequence[TrialResult],
    incumbent: Experiment | None = None,
    setup: str = "",
) -> TrialResult:
    """Return the result of a trial as it is recorded; tainted means that it is run again, on the same seed.

    Args:
        result: As the executor gave it.
        earlier: Of trials of the same code, oldest first.
        incumbent: If given, a trial that ran far slower than its code explains is tainted too, but only once.
        setup: Key of the setup the incumbent is compared under.
    """
    is_first = all(r.reason != "contention" for r in earlier)
    if incumbent is not None and is_first and is_contended(result, incumbent, setup):
        result = replace(result, outcome=Outcome.TAINTED, reason="contention")
    last = [r.outcome for r in (*earlier, result) if not is_slow(r)][-MAX_TAINTED:]
    if not is_slow(result) and last == [Outcome.TAINTED] * MAX_TAINTED:
        return replace(result, outcome=Outcome.CRASH)
    return result


def next_step(candidate: Experiment, incumbent: Experiment, setup: str) -> Step:
    """Return what comes next, by the candidate's last trial and what the incumbent was run for."""
    last = candidate.trials[-1] if candidate.trials else None
    if last is None or last.setup != setup or not is_slow(last.result):
        return Step("try")
    beside = f"{candidate.number}-{len(candidate.trials) - 1}"
    checks = [
        t.result for t in incumbent.trials if t.is_of_loop(setup) and BESIDE in t.result.extra
    ]
    own = [check for check in checks if check.extra[BESIDE] == beside]
    if not own:
        is_known = _answers_for(checks, candidate.number, last.result)
        return Step("final" if is_known else "check", beside)
    if _is_usual(own[0], last.result):
        return Step("final", beside)
    over = len(own) - 1 - len(PAUSES)
    if _is_usual(own[-1], last.result) or over >= STEADY:
        return Step("try")
    speed = own[-1].tokens_per_second
    if over >= 0:
        return Step("measure", beside, tokens_per_second=speed)
    return Step("wait", beside, PAUSES[over], speed)


def _answers_for(checks: list[TrialResult], number: int, slow: TrialResult) -> bool:
    """Whether an earlier check, which found the machine at its usual speed at once, is recent enough."""
    if not checks:
        return False
    of = checks[-1].extra[BESIDE]
    is_recent = 0 < number - int(of.split("-")[0]) < CHECK_HOLDS
    is_only = sum(check.extra[BESIDE] == of for check in checks) == 1
    return is_recent and is_only and _is_usual(checks[-1], slow)


def _is_usual(check: TrialResult, slow: TrialResult) -> bool:
    """Whether the candidate was slow even by the speed that the incumbent had in this check."""
    if is_slow(check) or not check.tokens_per_second:
        return False
    return (slow.tokens_per_second or 0.0) < COLLAPSE_SHARE * check.tokens_per_second
