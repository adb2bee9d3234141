"""Where the time of a session went, from its record."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime

from autoresearch.types import Experiment, Session, Verdict
from autoresearch.ui.present import moment


def wall_seconds(session: Session, now: datetime | None) -> float:
    """Return the seconds the session ran; for a running one without a figure, up to `now`."""
    if session.state != "running" or session.wall_seconds > 0 or now is None:
        return session.wall_seconds
    started = moment(session.started_at)
    return max((now - started).total_seconds(), 0.0) if started else 0.0


def seconds_by_kind(session: Session) -> dict[str, float]:
    """Return seconds by `types.Busy` kind; from the trials where no run has ended yet."""
    total: dict[str, float] = defaultdict(float)
    if session.busy:
        for stretch in session.busy:
            total[stretch.kind] += stretch.seconds
        return {kind: value for kind, value in total.items() if value}
    for e in session.experiments:
        for trial in e.trials:
            r = trial.result
            parts = (
                ("train", r.train_seconds),
                ("startup", r.startup_seconds),
                ("judge", (r.submit_seconds or 0.0) + (r.judge_seconds or 0.0)),
            )
            for kind, value in parts:
                total[kind] += value or 0.0
    return {kind: value for kind, value in total.items() if value}


def confirm_seconds(session: Session) -> float:
    """Return the seconds all trials of confirmations took."""
    return sum(
        t.result.total_seconds or 0.0
        for e in session.experiments
        for t in e.trials
        if t.confirmation
    )


def later_seconds(session: Session, by_kind: Mapping[str, float]) -> float:
    """Return the seconds of confirmations that are in no run: what `by_kind` of the runs leaves."""
    if not session.busy:
        return 0.0
    return max(confirm_seconds(session) - by_kind.get("confirm", 0.0), 0.0)


def lost_seconds(judged: Iterable[Experiment]) -> dict[str, float]:
    """Return what crashes and broken rules cost, by reason, largest first."""
    total: dict[str, float] = defaultdict(float)
    for e in judged:
        if e.verdict in {Verdict.CRASH, Verdict.INVALID}:
            total[e.reason] += e.total_seconds or 0.0
    return dict(sorted(total.items(), key=lambda item: -item[1]))
