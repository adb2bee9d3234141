"""What confirmations say of the present best: the headline, each kept change left out, other conditions.

Only the newest answer to a question counts, and only one about the experiment that is the best now.
"""

from collections.abc import Iterable
from typing import Literal

from autoresearch.types import Confirmation, Session

Carried = Literal["carries", "unclear", "does not"]

LEFT_OUT = "without-"
"""How the trials of the best without one change are marked in the journal, before its number."""
CARRIES_ABOVE, IDLE_BELOW = 0.95, 0.2
"""Probabilities of being a gain between which it is unclear whether a kept change carries the gain."""


def headline(session: Session) -> Confirmation | None:
    """Return the newest confirmation of the present best against the baseline."""
    return next((c for c in reversed(_of_best(session)) if c.kind == "session"), None)


def left_out(session: Session) -> dict[int, Confirmation]:
    """Return, by number, the newest comparison of the best with and without a kept change."""
    standing = {e.number for e in session.kept}
    return {
        c.reference: c for c in _of_best(session) if c.kind == "each" and c.reference in standing
    }


def carried(confirmation: Confirmation) -> Carried:
    """Return whether a change that was left out carries the gain."""
    p = confirmation.p_carries
    if confirmation.is_gain or (p is not None and p > CARRIES_ABOVE):
        return "carries"
    return "does not" if p is not None and p < IDLE_BELOW else "unclear"


def further(session: Session) -> tuple[Confirmation, ...]:
    """Return the newest answer to each question that is neither the headline nor a change left out."""
    return newest(c for c in _of_best(session) if c.kind not in {"session", "each"})


def newest(confirmations: Iterable[Confirmation]) -> tuple[Confirmation, ...]:
    """Return the last confirmation of each question, in the order the questions were first asked."""
    found = {(c.kind, c.reference, c.candidate, c.budget_seconds, c.note): c for c in confirmations}
    return tuple(found.values())


def _of_best(session: Session) -> list[Confirmation]:
    if session.best == 0:
        return []
    return [c for c in session.confirmations if c.candidate == session.best]
