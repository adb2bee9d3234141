"""Whether there is still something to find: the probability that the next experiments bring a gain.

Each experiment counts as a find with its probability of a gain above half the noise, crashes as none; the rate of
finding gets a beta posterior in which old experiments fade. The number of discards alone decides nothing.
"""

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from autoresearch.decision.scores import is_measured_tip
from autoresearch.types import Session, State, Verdict

if TYPE_CHECKING:
    from autoresearch.decision.belief import Estimate

PLATEAU_AHEAD = 10
PLATEAU_PROBABILITY = 0.35
"""A plateau: the next `PLATEAU_AHEAD` experiments bring a gain above half the noise with less than this probability."""
MEMORY = 20.0
"""Experiments after which what an experiment says about the rate of finding weighs half."""
FORGOTTEN = 400
"""Experiments after which one says nothing: it weighs a millionth."""
PRIOR = (1.0, 9.0)
"""Finds and misses before the first experiment."""


def is_plateau(session: Session) -> bool:
    """Whether the next experiments will hardly find anything, judging by the latest ones."""
    return finding_probability(session) < PLATEAU_PROBABILITY


def finding_probability(
    session: Session,
    known: "Mapping[int, Estimate] | None" = None,
    *,
    judging: int | None = None,
) -> float:
    """Return the probability that the next `PLATEAU_AHEAD` experiments bring a gain above half the noise.

    Args:
        session: The record.
        known: What is believed of its experiments; None: read from the record.
        judging: Number of an experiment that is about to get its verdict and counts already.
    """
    if known is None:
        from autoresearch.decision.belief import (
            estimates,  # numpy is not for screens that show a figure
        )

        known = estimates(session)
    judged = (
        e
        for e in sorted(session.experiments, key=lambda e: -e.number)
        if not is_measured_tip(e) and e.number != judging and e.state is State.JUDGED
    )
    chances = [
        known[e.number].p_clear if e.number in known else float(e.verdict is Verdict.KEEP)
        for e in itertools.islice(judged, FORGOTTEN)
    ]
    if judging is not None and judging in known:
        chances.insert(0, known[judging].p_clear)
    finds, misses = PRIOR
    for age, chance in enumerate(chances):
        weight = 0.5 ** (age / MEMORY)
        finds += weight * (chance or 0.0)
        misses += weight * (1 - (chance or 0.0))
    log_none = (
        math.lgamma(misses + PLATEAU_AHEAD)
        - math.lgamma(misses)
        + math.lgamma(finds + misses)
        - math.lgamma(finds + misses + PLATEAU_AHEAD)
    )
    return 1 - math.exp(log_none)
