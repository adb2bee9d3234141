"""What `run` says before it begins: how many experiments, until when, at what cost, and when it will confirm."""

from datetime import datetime, timedelta

from autoresearch.config import Config
from autoresearch.decision.confirmation import confirmation_reserve_seconds
from autoresearch.decision.measuring import SHORT_NIGHT, USUAL_SHARE
from autoresearch.proposer.registry import kinds_of
from autoresearch.session.context import Limits, trial_seconds
from autoresearch.types import Session
from autoresearch.ui.text import duration, money

_OVERHEAD = (1.1, 5.0)
"""A trial takes so many training budgets, and so many seconds, where none was measured yet."""


def plan(
    session: Session,
    config: Config,
    limits: Limits,
    *,
    is_confirming: bool,
    is_measured: bool,
    first_call_usd: float | None,
    now: datetime,
) -> str:
    """Return the plan of a run in one line.

    Args:
        session: As recorded before the run.
        config: All settings.
        limits: Of the run.
        is_confirming: Whether it ends with a confirmation.
        is_measured: Whether the tip of the branch has its score, so that no baseline is trained first.
        first_call_usd: The most the next call of a model can cost; None where it is not known.
        now: Local time.
    """
    share, extra = _OVERHEAD
    usual = trial_seconds(session, share * config.trial.budget_seconds + extra)
    trials = config.decision.baseline_trials * (not is_measured)
    reserve = 0.0
    if is_confirming and config.session.confirm_trials:
        reserve = confirmation_reserve_seconds(config.session, usual, limits.seconds)
    number, in_time = limits.experiments or None, 0
    if limits.seconds:
        in_time = int((limits.seconds - reserve - trials * usual) // usual)
        number = max(min(number or in_time, in_time), 0)
    parts = []
    end = now + timedelta(seconds=limits.seconds)
    if number is None:
        parts.append("experiments until Ctrl-C or `autoresearch stop`: no limit was given")
    else:
        until = (
            f"until {end:%H:%M}" if limits.seconds else f"in {duration((number + trials) * usual)}"
        )
        parts.append(f"at most {number} experiment{'s' * (number != 1)} {until}")
        if limits.seconds and number == in_time > SHORT_NIGHT:
            ideas = int(number * (1 - USUAL_SHARE))
            parts.append(f"about {ideas} of their trials for ideas, the rest measures")
    parts.append(f"each about {duration(usual)}")
    parts += _costs(session, config, limits, number, first_call_usd)
    if is_confirming and config.session.confirm_trials:
        if limits.seconds and not reserve:
            parts.append("too short for a confirmation at its end: `autoresearch confirm` later")
        else:
            when = f" from {end - timedelta(seconds=reserve):%H:%M}" if limits.seconds else ""
            parts.append(
                f"a gain is confirmed on fresh seeds at the end{when}, {duration(reserve)}"
            )
    return "; ".join(parts)


def _costs(
    session: Session,
    config: Config,
    limits: Limits,
    number: int | None,
    first_call_usd: float | None,
) -> list[str]:
    if kinds_of(config.proposer) == ("search",):
        return ["proposals cost nothing"]
    spent, ideas = session.usage.cost_usd, sum(e.number > 0 for e in session.experiments)
    parts = []
    if spent and ideas:
        each = spent / ideas
        total = "" if number is None else f", about {money(each * number)} in all"
        parts.append(f"a proposal costs about {money(each)}{total}")
    elif first_call_usd:
        parts.append(f"the first call costs at most {money(first_call_usd)}")
    if limits.max_cost_usd:
        gone = f", of which {money(spent)} are spent" if spent else ""
        parts.append(f"at most {money(limits.max_cost_usd)}{gone}")
    else:
        parts.append("no limit of cost (`--max-cost`)")
    return parts
