"""What limits the trust in a session, what needs a person, and which command comes next."""

from collections import Counter

from autoresearch.decision.scores import good_trials, is_tip_known
from autoresearch.decision.verified import carried, headline, left_out
from autoresearch.types import Alert, Experiment, Session, Verdict
from autoresearch.ui.spending import lost_seconds

RECENT = 20
"""Experiments that alerts look back on."""
MEMORY_GROWTH = 0.1
"""Growth of peak memory from the baseline to the best that is worth a word."""
DRIFT = 0.03
"""Relative difference in tokens/s between long trials of the same code that is worth a word."""
JITTER_SECONDS = 0.35
"""What a quiet machine may take from one trial and not from another: much of a trial of five seconds."""


def marks(
    session: Session, baseline: Experiment | None, best: Experiment | None
) -> tuple[str, ...]:
    """Return what limits the trust in the numbers of a session."""
    found = []
    if session.is_unsafe:
        found.append("unsafe: some trials ran without a sandbox")
    if session.is_validation_visible:
        found.append("validation visible: this text source can be read inside the sandbox")
    if len(session.setups) > 1:
        found.append(f"{len(session.setups)} setups: numbers are compared only within one")
    before = baseline.peak_memory_mb if baseline else None
    after = best.peak_memory_mb if best else None
    if before and after and baseline and best and baseline.setup == best.setup:
        growth = after / before - 1
        if growth > MEMORY_GROWTH:
            found.append(f"the best needs {growth:.0%} more memory than the baseline")
    return tuple(found)


def alerts(session: Session, judged: list[Experiment]) -> tuple[Alert, ...]:
    """Return what needs a person: the lab's own alerts, newest first, then what the record shows."""
    found: list[Alert] = []
    seen: set[str] = set()
    confirmed_at = max((c.at for c in session.confirmations), default="")
    for alert in reversed(session.alerts):
        is_confirmed = alert.command.startswith("autoresearch confirm") and alert.at < confirmed_at
        words = {alert.text, alert.about} - {""}
        is_old = not words.isdisjoint(seen)
        seen |= words
        if not (is_old or is_confirmed or alert.is_over):
            found.append(alert)
    at = session.ended_at or session.started_at
    found = unconfirmed(session) + found
    if session.best and session.state != "running" and not is_tip_known(session):
        text = f"the branch has changed since #{session.best}: its code was not measured yet"
        found.insert(0, Alert(text, at, "autoresearch run"))
    if session.state == "dead":
        found.insert(0, Alert("the lab died without an end record", at, "autoresearch run"))
    recent = judged[-RECENT:]
    crashes = Counter(e.reason for e in recent if e.verdict is Verdict.CRASH)
    for reason, number in crashes.items():
        if number >= 3 and not session.is_foreign:
            what = f"crashed with {reason}" if reason != "slow" else "were stopped: too slow"
            lost = lost_seconds(e for e in recent if e.reason == reason)[reason] / number
            text = (
                f"{number} of the last {len(recent)} experiments {what}"
                f" (about {lost:.0f} s lost each)"
            )
            found.append(Alert(text, at, f"autoresearch log --verdict crash -n {RECENT}"))
    budget = session.setup.budget_seconds if session.setup else 300.0
    drift = DRIFT + JITTER_SECONDS / budget
    for e in session.experiments:
        speeds = [
            t.result.tokens_per_second
            for t in good_trials(e)
            if t.result.tokens_per_second is not None
        ]
        if len(speeds) > 1 and max(speeds) > min(speeds) * (1 + drift):
            text = (
                f"trials of #{e.number}, same code, differ by"
                f" {max(speeds) / min(speeds) - 1:.0%} in tokens/s, as on a shared machine"
            )
            found.append(Alert(text, at, "autoresearch doctor"))
            break
    return tuple(found)


def unconfirmed(session: Session) -> list[Alert]:
    """Return what the confirmations of the present best say against it, and what to type about it."""
    found = []
    best = headline(session)
    if best is not None and best.is_alarm:
        text = (
            f"the gain on validation does not carry over: {best.validation_delta:+.6f} there,"
            f" {best.delta:+.6f} [{best.low:+.6f}, {best.high:+.6f}] on the {best.split} split"
        )
        found.append(Alert(text, best.at, "autoresearch confirm --each"))
    elif best is not None and best.low > 0:
        text = (
            f"#{best.candidate} is worse than #{best.reference} on the {best.split} split:"
            f" {best.delta:+.6f} [{best.low:+.6f}, {best.high:+.6f}]"
        )
        found.append(Alert(text, best.at, "autoresearch confirm --each"))
    idle = {n: c for n, c in left_out(session).items() if carried(c) == "does not"}
    if len(idle) == 1:
        number, c = next(iter(idle.items()))
        text = (
            f"#{number} does not carry the gain: with it the best measures {c.delta:+.6f}"
            f" [{c.low:+.6f}, {c.high:+.6f}] on the {c.split} split"
        )
        found.append(Alert(text, c.at, f"autoresearch revert {number}"))
    elif idle:
        newest = max(idle)
        numbers = " ".join(f"#{number}" for number in idle)
        text = f"{len(idle)} kept changes do not carry the gain ({numbers}); undo the newest first"
        found.append(Alert(text, idle[newest].at, f"autoresearch revert {newest}"))
    return found


def next_step(session: Session) -> tuple[str, str]:
    """Return the command to type next and what it gives; nothing for a file of others."""
    if session.is_foreign:
        return "", ""
    if session.state == "new" or not session.experiments:
        return "autoresearch run --hours 8", "measure the baseline and start"
    if session.state == "running":
        return "autoresearch log --watch", "follow it"
    if session.state == "paused":
        return "autoresearch resume", "go on"
    if session.state == "dead":
        return "autoresearch run", "go on where the lab died"
    if session.best and not is_tip_known(session):
        return "autoresearch run", "measure the branch as it is now, and go on"
    if session.kept and headline(session) is None and session.setup is not None:
        return "autoresearch confirm", "is it real: baseline and best on fresh seeds"
    if session.kept:
        added = sum(e.lines_added for e in session.kept)
        removed = sum(e.lines_removed for e in session.kept)
        return "autoresearch diff baseline best", f"+{added} -{removed} lines in the kept changes"
    return "autoresearch run", "go on"
