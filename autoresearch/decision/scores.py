"""What the scores of experiments stand for: which may be compared, which may be luck, which are no ideas."""

from autoresearch.types import Experiment, Session, Trial, Verdict

DOUBTFUL = 0.8
"""A keep with a smaller probability of being real is marked."""


def find(session: Session, number: int) -> Experiment | None:
    """Return experiment `number`, or None."""
    return next((e for e in session.experiments if e.number == number), None)


def is_doubtful(experiment: Experiment) -> bool:
    """Whether a keep may well be luck. A `simpler` one claims no gain and is never doubtful."""
    p = experiment.p_real
    return experiment.reason != "simpler" and p is not None and p < DOUBTFUL


def good_trials(experiment: Experiment, setup: str | None = None) -> list[Trial]:
    """Return the trials that count for the experiment's val_bpb under a setup (default: its own)."""
    setup = experiment.setup if setup is None else setup
    return [t for t in experiment.trials if t.counts(setup)]


def bpb_under(experiment: Experiment, setup: str) -> float | None:
    """Return the mean val_bpb of the experiment's good trials under one setup."""
    scores = [t.result.bpb for t in good_trials(experiment, setup) if t.result.bpb is not None]
    return sum(scores) / len(scores) if scores else None


def comparable(a: Experiment, b: Experiment, session: Session) -> tuple[float, float] | None:
    """Return val_bpb of both under one setup, the current one if possible; None if there is none."""
    setups = [session.setup.key] if session.setup else []
    for setup in [*setups, b.setup, a.setup]:
        one, two = bpb_under(a, setup), bpb_under(b, setup)
        if one is not None and two is not None:
            return one, two
    return None


def is_tip_known(session: Session) -> bool:
    """Whether the code at the tip of the branch has a score, as far as the journal knows the tip."""
    return not session.tip or any(
        e.commit == session.tip and e.verdict is Verdict.KEEP for e in session.experiments
    )


def is_measured_tip(experiment: Experiment) -> bool:
    """Whether it measures a commit that stands already: the baseline, a revert, a person's own commit."""
    return (
        experiment.number == 0
        or experiment.proposer == "baseline"
        or (experiment.commit == experiment.parent and experiment.commit != "")
    )
