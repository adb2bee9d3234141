"""The verdict on a session in a word and a sentence, which every screen, report, plot and notification begins with."""

import re
from dataclasses import dataclass
from typing import Literal

from autoresearch.decision.confirmation import headline
from autoresearch.decision.scores import good_trials
from autoresearch.types import Confirmation, Experiment, Session
from autoresearch.ui import text as f

Word = Literal["", "CONFIRMED", "NOT CONFIRMED", "NO GAIN", "NOT COMPARABLE"]
STYLES = {"CONFIRMED": "good", "NOT CONFIRMED": "warning", "NOT COMPARABLE": "warning"}
SPEED_CHANGE = 2.0
"""Ratio of speeds of the same code from which trials of a fixed time do not measure the same thing."""

BUILTIN = {
    "builtin:python": "the source of Python",
    "builtin:packages": "the source of Python packages",
}


@dataclass(frozen=True)
class Conclusion:
    """What a session came to."""

    word: Word = ""
    """Empty while nothing has been measured."""
    text: str = ""
    """Its number and why, numbers rounded to two digits of their error."""

    def __str__(self) -> str:
        """Return `NO GAIN: ...`."""
        return f"{self.word}: {self.text}" if self.word else self.text

    @property
    def style(self) -> str:
        """Its colour by meaning."""
        return STYLES.get(self.word, "")


def conclude(
    session: Session,
    baseline: Experiment | None,
    best: Experiment | None,
    delta: float | None,
    *,
    estimate: float | None = None,
    digits: int = 6,
) -> Conclusion:
    """Return the verdict on a session.

    Args:
        session: As recorded.
        baseline: Experiment 0.
        best: The best one; the baseline where nothing stands.
        delta: Measured mean of the best minus that of the baseline on validation; None across setups.
        estimate: The gain to expect with luck taken off.
        digits: Decimals that the noise allows for `delta` and `estimate`.
    """
    if baseline is None or best is None or baseline.score is None:
        return Conclusion(text="nothing has been measured yet")
    if best.number == 0:
        judged = sum(e.verdict is not None and e.number != 0 for e in session.experiments)
        if not judged:
            return Conclusion(text="the baseline is measured, no idea has been tried yet")
        tried = "the one idea tried is not" if judged == 1 else f"none of {judged} ideas is"
        return Conclusion("NO GAIN", f"{tried} clearly better than the baseline")
    c = headline(session)
    if c is not None and c.is_gain:
        return Conclusion("CONFIRMED", f"{measured(c)}{_shrunk(c)}")
    if delta is None and c is None:
        why = f"the baseline and #{best.number} were measured on different setups"
        return Conclusion("NOT COMPARABLE", why)
    change = _speed_change(baseline, best)
    if change is not None:
        why = f"the machine ran the same code up to {change:.1f} times as fast at one time as at another"
        return Conclusion("NOT COMPARABLE", why)
    if c is None:
        if session.is_foreign:
            return Conclusion("NOT CONFIRMED", "a results.tsv cannot be measured again")
        expected = f", expect {f.delta(estimate, digits)}" if estimate is not None else ""
        return Conclusion("NOT CONFIRMED", f"not measured on fresh seeds yet{expected}")
    if c.is_harm:
        return Conclusion("NOT CONFIRMED", f"worse than the baseline, {measured(c)}")
    return Conclusion("NOT CONFIRMED", f"no gain shown, {measured(c)}{_shrunk(c)}")


def measured(c: Confirmation) -> str:
    """Return `-0.0221 +- 0.0006 (-2.2%) on unseen text, 4 fresh seeds`; +- is the 95 % interval."""
    where = "unseen text" if c.split == "test" else f"the {c.split} split"
    share = f" ({f.share(c.delta / c.reference_score)})" if c.reference_score else ""
    return f"{difference(c)}{share} on {where}, {c.num_trials} fresh seeds"


def difference(c: Confirmation) -> str:
    """Return `-0.0221 +- 0.0006`, rounded to two digits of the half width."""
    half = (c.high - c.low) / 2
    digits = f.decimals(half)
    return f"{f.delta(c.delta, digits)} +- {half:.{digits}f}"


def _shrunk(c: Confirmation) -> str:
    """Return what validation promised where unseen text does not bear it out."""
    if not c.is_alarm or c.validation_delta is None:
        return ""
    digits = f.decimals((c.high - c.low) / 2)
    return f"; validation had promised {f.delta(c.validation_delta, digits)}"


def _speed_change(*experiments: Experiment) -> float | None:
    """Return how many times faster the same code ran at one time than at another; None below `SPEED_CHANGE`."""
    found = 1.0
    for e in experiments:
        again = [t for t in e.trials if t.confirmation.startswith("session")]
        speeds = [
            t.result.tokens_per_second
            for t in (*good_trials(e), *again)
            if t.result.ok and t.setup == e.setup and t.result.tokens_per_second
        ]
        if speeds:
            found = max(found, max(speeds) / min(speeds))
    return found if found >= SPEED_CHANGE else None


def subject(session: Session) -> str:
    """Return what is trained: `GPT of 50.3M parameters on climbmix-400b-shuffle`, as far as it is recorded."""
    trials = (t for e in reversed(session.experiments) for t in e.trials)
    number = next((t.result.num_params for t in trials if t.result.num_params), None)
    source = f.clean(str(session.data.get("source") or ""))
    source = BUILTIN.get(source) or re.sub(r"^.*/", "", source.rstrip("/"))
    what = f"GPT of {f.count(number)} parameters" if number else "GPT" if source else ""
    return f"{what} on {f.fit(source, 60)}" if source else what
