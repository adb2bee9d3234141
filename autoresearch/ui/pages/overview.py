"""The head of a session's screen, in the order in which questions are asked in the morning."""

from collections.abc import Mapping
from datetime import datetime

from rich.cells import cell_len
from rich.text import Text

from autoresearch.decision.confirmation import carried
from autoresearch.decision.plateau import PLATEAU_AHEAD
from autoresearch.events import parse_time
from autoresearch.types import Session, Usage
from autoresearch.ui import text as f
from autoresearch.ui.conclusion import difference
from autoresearch.ui.console import styled
from autoresearch.ui.pages.confirmation import question, word_of
from autoresearch.ui.summary import Summary, running_best
from autoresearch.ui.tables import folded

PHASE_WORDS = {
    "startup": "start-up",
    "train": "train",
    "submit": "submit",
    "claim": "judge",
    "audit": "audit",
    "propose": "waiting for the proposer",
    "trial": "starting",
    "starting": "starting",
    "decide": "deciding",
    "confirm": "confirming",
    "wait": "waiting",
}
"""Phases of a trial and of the lab, as screens name them."""
LABEL = 10
"""Cells of the labels at the left of the summary."""

STATES = {
    "new": ("nothing run yet", "muted"),
    "running": ("running", "running"),
    "paused": ("paused", "warning"),
    "finished": ("finished", "good"),
    "interrupted": ("stopped", "warning"),
    "dead": ("died", "error"),
}
"""State -> the word for it and its style."""
REQUESTS = {
    "pause": "pausing after this trial",
    "stop": "stopping after this trial",
    "stop-now": "stopping",
}
"""What another terminal asked of a running session -> how screens say it."""
STOP_WORDS = {
    "hours": "the time limit was reached",
    "experiments": "the limit of experiments was reached",
    "max_cost": "the cost limit was reached",
    "interrupted": "Ctrl-C or SIGTERM",
    "stopped": "`autoresearch stop`",
    "proposer": "the proposer has no more ideas",
    "error": "an error",
    "foreign": "read from a results.tsv",
}


def word_for(phase: str) -> str:
    """Return a phase as screens name it."""
    return PHASE_WORDS.get(phase, f.clean(phase))


def summary_lines(
    session: Session,
    summary: Summary,
    *,
    width: int = 100,
    utf8: bool = True,
    now: datetime | None = None,
) -> list[Text]:
    """Return everything above the table; also shown at the end of `run` and `demo`."""
    now = now or f.now()
    lines = [header(session, summary, now, width)]
    if summary.baseline_score is not None or summary.num_tried:
        lines.append(Text())
        lines += [verdict_line(summary), score_line(summary, now)]
        lines += _background(session, summary, width, utf8)
        lines += _reality(summary)
        lines += _gains(summary, width)
        lines += _failures(summary)
        if parts := spend_parts(session, summary):
            lines.append(_row("spend", "   ".join(parts)))
        if not summary.confirmation and (text := trend_text(summary)):
            lines.append(_row("trend", text))
    for mark in summary.marks:
        lines.append(_row("caution", styled(f.clean(mark), "warning")))
    if summary.alerts:
        lines += [Text(), styled("needs you", "heading")]
        for alert in summary.alerts[:6]:
            line = styled("  ! ", "warning")
            line.append(f.clean(alert.text), style="default")
            if alert.command:
                line.append(": `", style="default").append(f.clean(alert.command), style="command")
                line.append("`", style="default")
            lines.append(line)
        if len(summary.alerts) > 6:
            lines.append(styled(f"  and {len(summary.alerts) - 6} more: `--json`", "muted"))
    return [
        part
        for line in lines
        for part in folded(line, width, 4 if line.plain.startswith("  ! ") else LABEL)
    ]


def header(session: Session, summary: Summary, now: datetime, width: int = 100) -> Text:
    """Return branch, state and why, how long, on what."""
    text = styled(f.clean(session.branch or session.tag), "heading")
    text.append("   ").append_text(state_text(session, summary, now))
    parts = []
    if summary.wall_seconds:
        verb = "up" if session.state in {"running", "paused"} else "ran"
        parts.append(f"{verb} {f.duration(summary.wall_seconds)}")
    if session.setup:
        parts.append(f.clean(session.setup.gpu))
    parts.append(f.clean(session.model or session.proposer))
    for part in filter(None, parts):
        if cell_len(text.plain) + 3 + cell_len(part) <= width:
            text.append("   " + part, style="muted")
    return text


def state_text(session: Session, summary: Summary, now: datetime) -> Text:
    """Return `RUNNING experiment 84, 3m12s`, `FINISHED 07:00: ...`, `DIED ...`."""
    word, style = STATES[session.state]
    if session.state == "new":
        return styled(f"NEW, {word}", style)
    text = styled(word.upper(), style)
    if session.state == "running":
        text.append(_present(summary, now), style="default")
        asked = REQUESTS.get(summary.doing.request) if summary.doing else None
        return text.append(f"; {asked}", style="warning") if asked else text
    if session.ended_at:
        text.append(" " + f.clock(session.ended_at, now=now), style="default")
    reason = f.clean(session.stop_reason)
    if reason:
        text.append(": " + STOP_WORDS.get(reason, reason), style="default")
    if summary.doing is not None and session.ended_at:  # a confirmation the user asked for
        text.append(";" + _present(summary, now), style="default")
    return text


def _present(summary: Summary, now: datetime) -> str:
    """Return ` experiment 84, train 3m12s of 5m00s` as far as it is known."""
    text = f" experiment {summary.running.number}" if summary.running else ""
    present = summary.doing
    if present is not None:
        word = word_for(present.what)
        text += f"{',' if text else ''} {word}" if word else ""
        if present.what == "confirm" and present.detail:
            text += f" {f.clean(present.detail)}"
        elif present.seconds is not None:
            text += f" {f.duration(present.seconds)}"
        if present.budget_seconds is not None and present.what == "train":
            text += f" of {f.duration(present.budget_seconds)}"
        return text
    started = parse_time(summary.running.started_at) if summary.running else None
    return text + (f", {f.duration((now - started).total_seconds())}" if started else "")


def verdict_line(summary: Summary) -> Text:
    """Return `verdict   CONFIRMED: ...`."""
    found = summary.conclusion
    word = styled(found.word + (": " if found.word else ""), f"verdict {found.style}".strip())
    return _row("verdict", word.append(found.text, style="default"))


def _row(label: str, *parts: Text | str) -> Text:
    line = styled(label.ljust(LABEL), "label")
    for part in parts:
        line.append_text(styled(part, "default") if isinstance(part, str) else part)
    return line


def score_line(summary: Summary, now: datetime) -> Text:
    """Return `val_bpb   0.9979 -> 0.9741   -0.0238 (-2.4%) on validation   best #114 9f2c1ab, 49m ago`."""
    best, digits = summary.best, summary.digits
    line = styled(f.score(summary.baseline_score, digits), "default")
    if best is not None and best.number != 0:
        line.append(" -> ").append(f.score(summary.best_score, digits), style="metric")
        if summary.delta is not None:
            share = f.share(summary.relative)
            line.append(f"   {f.delta(summary.delta, digits)} ({share}) on validation")
        line.append(f"   best #{best.number} {best.commit[:7]}")
        if best.judged_at:
            line.append(", " + f.ago(best.judged_at, now))
    else:
        line.append("   baseline")
    return _row(f.fit(summary.metric.name, LABEL - 1), line)


def _background(session: Session, summary: Summary, width: int, utf8: bool) -> list[Text]:
    """Return the curve of the best so far, the noise, and what a model without context scores."""
    values = [value for _, value in running_best(session)]
    curve = f.sparkline(values, min(30, max(width - 60, 10)), utf8=utf8) if len(values) > 2 else ""
    facts = []
    if summary.noise is not None:
        between = " between trials of the same code" if width >= 90 else ""
        facts.append(f"noise {summary.noise:.{summary.digits}f}{between}")
    if summary.trivial_score is not None:
        trivial = summary.metric.trivial or "a trivial answer"
        facts.append(f"{f.clean(trivial)} scores {summary.trivial_score:.2f}")
    if not curve and not facts:
        return []
    text = styled(curve + "   " if curve else "", "good")
    return [_row("", text, styled("; ".join(facts), "muted"))]


def _reality(summary: Summary) -> list[Text]:
    lines: list[Text] = []
    for c in summary.further:
        word, style = word_of(c)
        text = styled(word, style).append(f" {question(c)}: {difference(c)}", style="default")
        lines.append(_row("" if lines else "also", text))
    if carried_by := left_out_text(summary):
        lines.append(_row("" if lines else "also", f"{carried_by}; see `log --kept`"))
    if sentence := real_text(summary):
        lines.append(_row("" if lines else "keeps", sentence))
    return lines


def real_text(summary: Summary) -> str:
    """Return how many keeps are probably real; empty once a confirmation has answered that."""
    if summary.confirmation or not summary.num_kept or summary.num_real is None:
        return ""
    text = f"about {summary.num_real:.0f} of {summary.num_kept} are probably real"
    if summary.num_kept == 1:
        text = f"real with probability {f.probability(summary.num_real)}"
    return text + (f"; may be luck: {f.numbers(summary.doubtful, 8)}" if summary.doubtful else "")


def left_out_text(summary: Summary) -> str:
    """Return which kept changes carry the gain, where leaving each out was tried."""
    groups: dict[str, list[int]] = {}
    for step in summary.steps:
        if step.left_out is not None:
            groups.setdefault(carried(step.left_out), []).append(step.experiment.number)
    if not groups:
        return ""
    total = sum(map(len, groups.values()))
    carriers = groups.get("carries", [])
    text = f"left out one at a time: {len(carriers)} of {total} kept changes carry the gain"
    text += f" ({f.numbers(carriers, 6)})" if carriers else ""
    for word, shown in (("unclear", "may or may not"), ("does not", "do not")):
        if word in groups:
            text += f", {len(groups[word])} {shown}"
    return text


def _gains(summary: Summary, width: int) -> list[Text]:
    """Return the three changes that did most: by leaving each out where that was tried."""
    worth = [
        (step.left_out.delta, step.experiment)
        for step in summary.steps
        if step.left_out is not None and carried(step.left_out) == "carries"
    ]
    measured = [(s.delta, s.experiment) for s in summary.steps if s.delta is not None]
    sign = summary.metric.sign
    found = sorted(worth or measured, key=lambda pair: sign * pair[0])
    lines: list[Text] = []
    for delta, e in found[:3]:
        if sign * delta >= 0 or summary.conclusion.word == "NOT COMPARABLE":
            break
        text = styled(f"{f.delta(delta, summary.digits)}  #{e.number:<4} ", "default")
        text.append(f.fit(f.clean(e.description), max(width - LABEL - 18, 20)))
        label = "carried" if worth else "gains"
        lines.append(_row(label if not lines else "", text))
    return lines


def counts(by_reason: Mapping[str, int]) -> str:
    """Return ` (3 oom, 1 nan)` for reasons and their counts."""
    parts = [f"{n} {f.clean(reason)}" for reason, n in by_reason.items() if reason]
    return f" ({', '.join(parts)})" if parts else ""


def _failures(summary: Summary) -> list[Text]:
    if not summary.num_tried:
        return []
    n = summary.num_by_verdict
    text = Text(f"{summary.num_tried} done  ")
    text.append(f"{n['keep']} keep", style="keep")
    if summary.num_reverted:
        text.append(f" ({summary.num_reverted} undone)")
    if n["held"]:
        text.append("  ").append(f"{n['held']} held", style="held")
    text.append("  ").append(f"{n['discard']} discard", style="default")
    for verdict in ("crash", "invalid"):
        reasons = dict(summary.num_by_reason.get(verdict, {}))
        slow = reasons.pop("slow", 0) if verdict == "crash" else 0
        if n[verdict] > slow:
            text.append("  ").append(f"{n[verdict] - slow} {verdict}", style=verdict)
            text.append(counts(reasons), style="default")
        if slow:
            text.append(f"  {slow} stopped: too slow", style=verdict)
    if summary.keep_rate is not None:
        text.append(f"   keep rate {f.percent(summary.keep_rate)}", style="default")
    return [_row("ideas", text)]


def spend_parts(session: Session, summary: Summary) -> list[str]:
    """Return what the session cost in time and money, a part for each kind."""
    parts = []
    if summary.wall_seconds and summary.gpu_seconds:
        parts.append(
            f"{device_word(session)} {f.duration(summary.gpu_seconds)} of"
            f" {f.duration(summary.wall_seconds)} ({f.percent(summary.busy_share)} busy)"
        )
    if summary.measuring_share:
        parts.append(f"measuring {f.percent(summary.measuring_share)} of the trials")
    if summary.later_seconds >= 1:
        parts.append(f"later confirmations {f.duration(summary.later_seconds)}")
    if summary.usage.num_calls:
        parts.append(f"LLM {usage_text(summary.usage)}")
    lost = sum(summary.lost_seconds.values())
    if lost >= 60:
        parts.append(f"lost to failures {f.duration(lost)}")
    return parts


def usage_text(usage: Usage) -> str:
    """Return `$0.42, 48.1k in (40.0k cached) / 9.20k out`, tokens."""
    price = f.money(usage.cost_usd) if usage.cost_usd is not None else "price unknown"
    cached = f" ({f.count(usage.tokens_cached)} cached)" if usage.tokens_cached else ""
    return f"{price}, {f.count(usage.tokens_in)} in{cached} / {f.count(usage.tokens_out)} out"


def device_word(session: Session) -> str:
    """Return `CPU` or `GPU`."""
    kind = str(session.hardware.get("kind", "")).casefold()
    name = (session.setup.gpu if session.setup else "").casefold()
    return "CPU" if kind == "cpu" or not name or "cpu" in name else "GPU"


def trend_text(summary: Summary) -> str:
    """Return how the last experiments went and what the next ones promise; empty where it is too early."""
    num = summary.num_since_gain
    experiments = "1 experiment" if num == 1 else f"{num} experiments"
    last = f"last convincing gain {experiments} ago" if num else "the last experiment was a gain"
    words = {
        "improving": f"improving: {last}",
        "slow": f"slow: no convincing gain in the last {experiments}",
        "plateau": f"plateau: no convincing gain in the last {experiments}",
        "stuck": f"stuck: no convincing gain in {experiments}",
    }
    text = words.get(summary.trajectory, "")
    if text and summary.p_find is not None:
        chance = f.probability(summary.p_find)
        text += f"; the next {PLATEAU_AHEAD} bring one with probability {chance}"
    return text


def next_line(summary: Summary) -> Text:
    """Return `next: <command> (what it gives)`."""
    text = styled("next: ", "label").append("`", style="default")
    text.append(summary.next_command, style="command").append("`", style="default")
    return text.append(f" ({summary.next_note})", style="muted") if summary.next_note else text
