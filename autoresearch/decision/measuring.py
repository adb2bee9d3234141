"""What the lab spends on measuring instead of on ideas, and how much of that it may.

Measuring is the baseline, the incumbent again (for its level, for drift, beside a slow or doubtful trial), and ideas
tried again. Confirmations are apart: they have their own share of the time.
"""

from autoresearch.types import Purpose, Session

QUIET_SHARE, SWINGING_SHARE = 0.12, 0.25
"""Of a night's trials, on a machine whose pace stays and on one whose pace changes."""
USUAL_SHARE = 0.05
"""What the incumbent and re-tests take of the trials after the baseline on a quiet machine: `bench/swing.py`."""
SHORT_NIGHT = 50
"""Trials that a session without a limit is taken to have at least."""
PACE_MARK = "others took"
"""How a mark of `types.Decision` begins where the machine's pace was another one."""
_RECENT = 20
_FOR_IDEAS = (Purpose.CANDIDATE, "")


def measuring_share(session: Session) -> float | None:
    """Return the part of the trials' time under the present setup that went into measuring; None before any trial."""
    measuring, everything = _seconds(session)
    return measuring / everything if everything else None


def is_swinging(session: Session) -> bool:
    """Whether any of the latest experiments ran at another pace than the usual one."""
    marks = [e.decision.mark for e in session.experiments[-_RECENT:] if e.decision is not None]
    return any(mark.startswith(PACE_MARK) for mark in marks)


def may_measure(session: Session) -> bool:
    """Whether one more trial that only measures keeps within its share of the night."""
    measuring, everything = _seconds(session)
    usual = session.trial_seconds or 0.0
    night = float(session.limits.get("seconds") or 0.0)
    num_trials = int(session.limits.get("experiments") or SHORT_NIGHT)
    share = SWINGING_SHARE if is_swinging(session) else QUIET_SHARE
    return measuring + usual <= share * max(everything, night, num_trials * usual)


def _seconds(session: Session) -> tuple[float, float]:
    """Return the seconds of trials that measure, and of all trials; re-tests are measuring."""
    setup = session.setup.key if session.setup is not None else ""
    measuring = everything = 0.0
    for experiment in session.experiments:
        for trial in experiment.trials:
            if trial.is_of_loop(setup):
                seconds = trial.result.total_seconds or 0.0
                everything += seconds
                measuring += seconds * (trial.purpose not in _FOR_IDEAS)
    return measuring, everything
