"""`autoresearch show N` and the result of `try`: one experiment or trial in full."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime

from rich.text import Text

from autoresearch.decision.confirmation import LEFT_OUT, newest
from autoresearch.decision.scores import find
from autoresearch.events import parse_time
from autoresearch.types import (
    CurvePoint,
    Experiment,
    Metric,
    Outcome,
    Purpose,
    Session,
    Trial,
    TrialResult,
    Verdict,
)
from autoresearch.ui import tables
from autoresearch.ui import text as f
from autoresearch.ui.charts import Series, chart, loss_points
from autoresearch.ui.console import OutputMode, styled
from autoresearch.ui.pages.as_json import Details
from autoresearch.ui.pages.confirmation import INDENT, confirmation_lines, left_out_line
from autoresearch.ui.pages.diffs import colored
from autoresearch.ui.pages.overview import usage_text
from autoresearch.ui.pages.rows import verdict_style, verdict_text
from autoresearch.ui.tables import Cell, Column

LABEL = 11
"""Cells of the labels at the left."""
TRIALS = (
    Column("trial", align="right"),
    Column("seed", align="right", drop=3),
    Column("score"),
    Column("split"),
    Column("audited", align="right", drop=2),
    Column("+-", align="right", drop=6),
    Column("tokens", align="right", drop=3, is_wanted=True),
    Column("tok/s", align="right", drop=1),
    Column("mem", align="right", drop=1, is_wanted=True),
    Column("startup", align="right", drop=4),
    Column("train", align="right", drop=2, is_wanted=True),
    Column("judge", align="right", drop=5),
    Column("outcome", is_flexible=True),
)


def render(
    session: Session,
    experiment: Experiment,
    details: Details,
    *,
    width: int = 100,
    utf8: bool = True,
    now: datetime | None = None,
) -> list[Text]:
    """Return the screen of one experiment."""
    now = now or f.now()
    lines = _title(experiment, width)
    lines += _idea(experiment, width)
    lines += _decision(session, experiment, now, width)
    if experiment.trials:
        lines += [Text(), styled("trials", "heading")]
        rows = [_trial(i, t) for i, t in enumerate(experiment.trials, 1)]
        lines += tables.render(TRIALS, rows, width, flexible_min=20)
        said: dict[str, list[str]] = {}
        for i, t in enumerate(experiment.trials, 1):
            said.setdefault(f.clean(t.result.detail), []).append(str(i))
        for detail, trials in said.items():
            line = styled(f"{', '.join(trials):>5}  {detail}", "warning")
            lines += tables.folded(line, width, 7) if detail else []
    lines += _confirmations(session, experiment, width)
    lines += _curves(experiment, details, width, utf8)
    if details.diff:
        against = f" against #{details.parent.number}" if details.parent else ""
        lines += [Text(), styled(f"change{against}", "heading"), *colored(details.diff)]
    tail = f.clean(details.log_tail, lines=True).strip("\n")
    if tail:
        lines += [Text(), styled("end of its output", "heading")]
        lines += [styled("  " + f.fit(line, 500), "muted") for line in tail.split("\n")[-25:]]
        if details.log_path:
            lines.append(styled(f"  all of it: {details.log_path}", "muted"))
    return lines + _next(session, experiment)


def _title(e: Experiment, width: int) -> list[Text]:
    title = styled(f"#{e.number}", "heading")
    title.append("  ").append(verdict_text(e), style=verdict_style(e))
    if e.commit:
        title.append(f"  {e.commit[:12]}", style="place")
    title.append(f"  +{e.lines_added} -{e.lines_removed} lines", style="muted")
    description = styled(f.clean(e.description), "metric")
    return [*tables.folded(title, width, 0), *tables.folded(description, width, 0)]


def _field(label: str, value: str, width: int) -> list[Text]:
    if not value:
        return []
    from textwrap import wrap

    parts = wrap(value, max(width - LABEL, 20), break_long_words=True) or [""]
    first = styled(label.ljust(LABEL), "label").append(parts[0], style="default")
    return [first, *(Text(" " * LABEL + part) for part in parts[1:])]


def _idea(e: Experiment, width: int) -> list[Text]:
    lines = [Text()]
    lines += _field("hypothesis", f.clean(e.hypothesis), width)
    lines += _field("expected", f.clean(e.expected_effect), width)
    lines += _field("theme", f.clean(e.theme), width)
    lines += _field("note", f.clean(e.note), width)
    values = ", ".join(f"{f.clean(k)} = {v:g}" for k, v in e.parameters.items())
    lines += _field("parameters", values, width)
    who = f"{e.proposer} {f.clean(e.model)}".strip()
    lines += _field("proposer", who + _cost(e), width)
    return lines if len(lines) > 1 else []


def _cost(e: Experiment) -> str:
    if not e.usage.num_calls:
        return ""
    took = f", {f.duration(e.usage.seconds)}" if e.usage.seconds else ""
    return f", {usage_text(e.usage)}{took}"


def _decision(session: Session, e: Experiment, now: datetime, width: int) -> list[Text]:
    lines: list[Text] = []
    d = e.decision

    def row(label: str, text: str) -> None:
        line = styled(label.ljust(LABEL), "label").append(text, style="default")
        lines.extend(tables.folded(line, width, LABEL))

    if e.score is not None:
        text = f.score(e.score)
        if d and d.delta is not None and e.number:
            text += f"   {f.delta(d.delta)} against the best at that moment"
        row(f.fit(f.clean(session.metric.name), LABEL - 1), text)
    if d and d.p_real is not None and e.number:
        text = f"probability {f.probability(d.p_real)}"
        if d.estimate is not None:
            text += f"; expected {f.delta(d.estimate)}"
        if d.low is not None and d.high is not None:
            text += f", 90% in {f.bounds(d.low, d.high)}"
        row("real?", text)
    if e.verdict is not None:
        why = d.explanation if d and d.explanation else e.reason
        verdict = verdict_text(e) if e.reason == "slow" else e.verdict.value
        row("why", f.clean(f"{verdict}: {why}" if why else verdict))
    if e.reverted_by:
        row("undone by", e.reverted_by[:12])
    if e.started_at:
        text = f.clock(e.started_at, now=now)
        if e.judged_at:
            text += f" to {f.clock(e.judged_at, now=parse_time(e.started_at))}"
        row("when", text)
    setup = session.setups.get(e.setup)
    if setup and session.setup and setup.key != session.setup.key:
        row("setup", "another than the current one: " + "; ".join(setup.differences(session.setup)))
    return [Text(), *lines] if lines else []


def _confirmations(session: Session, e: Experiment, width: int) -> list[Text]:
    """Return what confirmations say of this experiment, the newest answer to each question."""
    lines: list[Text] = []
    for c in newest(c for c in session.confirmations if e.number in (c.reference, c.candidate)):
        if c.kind != "each":
            found = confirmation_lines(c, session.metric)
        elif c.reference == e.number:
            found = [left_out_line(c)]
        else:
            continue
        lines += [part for line in found for part in tables.folded(line, width, INDENT)]
    return [Text(), styled("measured again", "heading"), *lines] if lines else []


def _trial(index: int, trial: Trial) -> list[Cell]:
    r = trial.result
    style = "" if r.ok else "crash"
    return [
        Cell(str(index)),
        Cell(str(r.seed)),
        Cell(f.score(r.score), "metric"),
        Cell(r.split + _condition(trial)),
        Cell(str(r.num_audited) if r.num_audited else "no"),
        Cell(f.NONE if r.score_se is None else f"{r.score_se:.6f}"),
        Cell(f.count(r.num_tokens)),
        Cell(f.count(r.tokens_per_second)),
        Cell(f.memory(r.peak_memory_mb)),
        Cell(f.duration(r.startup_seconds)),
        Cell(f.duration(r.train_seconds)),
        Cell(f.duration(r.judge_seconds)),
        Cell(_outcome(r), style),
    ]


def _condition(trial: Trial) -> str:
    """Return what sets a trial apart that is of a confirmation, or of the machine's speed."""
    if not trial.confirmation:
        return ", speed" if trial.purpose in (Purpose.CHECK, Purpose.PACE) else ""
    is_left_out = trial.confirmation.rpartition("/")[2].startswith(LEFT_OUT)
    return ", left out" if is_left_out else ", fresh"


def _curves(e: Experiment, details: Details, width: int, utf8: bool) -> list[Text]:
    mine, other = ("\u25cf", "\u00b7") if utf8 else ("o", ".")
    series = [Series(f"#{e.number}", mine, loss_points(details.curve), "good")]
    if details.parent is not None:
        label = f"#{details.parent.number}, its parent"
        series.append(Series(label, other, loss_points(details.parent_curve), "warning"))
    drawn = chart(series, width=min(width, 100), height=12)
    if not drawn or len(loss_points(details.curve)) < 2:
        return []
    return [Text(), styled("training loss", "heading"), *drawn, *_last_tenth(series, width)]


def _last_tenth(series: Sequence[Series], width: int) -> list[Text]:
    """Return the mean loss of the last tenth of each curve: what the drawing is too coarse for."""
    means = []
    for s in series:
        if len(s.points) > 1:
            start = s.points[-1][0] * 0.9
            values = [y for x, y in s.points if x >= start]
            means.append((s.label, sum(values) / len(values)))
    line = Text(" " * 9 + "last tenth: " + ", ".join(f"{label} {m:.4f}" for label, m in means))
    if len(means) == 2:
        line.append(f", difference {means[0][1] - means[1][1]:+.4f}")
    return tables.folded(line, width, 9)


def _next(session: Session, e: Experiment) -> list[Text]:
    """Return the command to type next; nothing where it would change or show nothing."""
    best = find(session, session.best)
    is_change = e.number != 0 and bool(e.commit) and e.commit != e.parent
    if is_change and e.verdict is Verdict.KEEP and not e.reverted_by:
        label, command = "undo it", f"autoresearch revert {e.number}"
    elif e.commit in ("", best.commit if best else ""):
        return []
    else:
        ends = f"best {e.number}" if e.number else "baseline best"
        label, command = "next", f"autoresearch diff {ends}"
    line = styled(f"{label}: `", "label").append(command, style="command")
    return [Text(), line.append("`")]


def print_trial(mode: OutputMode, result: TrialResult, metric: Metric) -> None:
    """Print the result of a trial that belongs to no session."""
    if mode.is_json:
        from autoresearch.ui.pages.as_json import curve_json, trial_json

        found = trial_json(Trial(result, setup="", started_at="", event=""))
        for name in ("setup", "started_at", "event", "confirmation", "purpose"):
            del found[name]
        found["curve"] = curve_json(result.curve)
        found["log_tail"] = f.clean(result.log_tail, lines=True)
        mode.json(found)
        return
    if mode.is_quiet:
        mode.data(f.score(result.score) if result.ok else _outcome(result))
        return
    if mode.is_tty:
        for line in trial_lines(result, metric, width=mode.out.width, utf8=mode.is_utf8):
            mode.data(line)
        return
    if not result.ok and result.log_tail:
        mode.say(f.clean(result.log_tail, lines=True))
    for name, value in plain_values(result, metric).items():
        mode.data(f"{name}: {value}")


def plain_values(result: TrialResult, metric: Metric) -> dict[str, str]:
    """Return the figures of a trial by name, as a pipe gets them; what is missing is left out."""
    exact = {"score", "claimed_score", "score_se"}
    values = {}
    for field in fields(TrialResult):
        value = getattr(result, field.name)
        if field.name in {"curve", "log_tail", "extra", "is_maximized"} or value in (None, ""):
            continue
        shown = str(value)
        if isinstance(value, float):
            shown = f"{value:.6f}" if field.name in exact else f"{value:.6g}"
        name = field.name
        if name == "score":
            name = metric.on(result.split)
        values[name] = f.clean(shown)
    return values


def _outcome(result: TrialResult) -> str:
    return f.clean(f"{result.outcome.value} {result.reason}").strip()


def trial_lines(
    result: TrialResult, metric: Metric, *, width: int = 100, utf8: bool = True
) -> list[Text]:
    """Return score, judge's figures, speed, memory and times; for a failure why and the log's end."""
    r = result
    lines = []
    if r.ok:
        head = styled(f"{f.clean(metric.on(r.split)):<10}", "label").append(
            f.score(r.score), style="metric"
        )
        if r.num_audited:
            head.append(f"   audited at {r.num_audited} positions", style="default")
            if r.score_se is not None:
                size = f"{r.score_se:.6f}" if r.score_se >= 5e-7 else "below 0.000001"
                head.append(f", standard error {size}", style="default")
        else:
            head.append("   claimed, not audited", style="default")
        lines.append(head)
    else:
        style = r.outcome.value if r.outcome is not Outcome.TAINTED else "warning"
        head = styled(f"{_outcome(r)}", style)
        if r.detail:
            head.append(f": {f.clean(r.detail)}", style="default")
        lines.append(head)
    lines += [_pairs("trained", _training(r)), _pairs("took", _times(r))]
    curve = loss_curve(r.curve, width=width, utf8=utf8)
    if curve is not None:
        lines.append(curve)
    if not r.ok and r.log_tail:
        lines += [Text(), styled("end of its output", "heading")]
        tail = f.clean(r.log_tail, lines=True).rstrip("\n").split("\n")[-20:]
        lines += [styled("  " + f.fit(line, 400), "muted") for line in tail]
    return [line for line in lines if line.plain or not lines[0].plain]


def _training(r: TrialResult) -> list[str]:
    return [
        part
        for part, value in (
            (f"{f.count(r.num_tokens)} tokens", r.num_tokens),
            (f"{r.num_steps} batches", r.num_steps),
            (f"{f.count(r.tokens_per_second)} tok/s", r.tokens_per_second),
            (f"{f.count(r.num_params)} parameters", r.num_params),
            (f"peak {f.memory(r.peak_memory_mb)}", r.peak_memory_mb),
            (f"sandbox {f.clean(r.sandbox)}", r.sandbox),
        )
        if value
    ]


def _times(r: TrialResult) -> list[str]:
    parts = [
        f"{name} {f.duration(value)}"
        for name, value in (
            ("start-up", r.startup_seconds),
            ("train", r.train_seconds),
            ("submit", r.submit_seconds),
            ("judge", r.judge_seconds),
        )
        if value is not None
    ]
    if r.total_seconds is not None:
        parts.insert(0, f"{f.duration(r.total_seconds)} in all")
    return parts


def _pairs(label: str, parts: list[str]) -> Text:
    if not parts:
        return Text()
    line = styled(f"{label:<10}", "label")
    return line.append(parts[0], style="default").append(
        "".join("   " + p for p in parts[1:]), style="default"
    )


def loss_curve(points: tuple[CurvePoint, ...], *, width: int, utf8: bool) -> Text | None:
    """Return the training loss as one row of characters with its first and last value."""
    losses = [loss for _, loss in loss_points(points)]
    if len(losses) < 3:
        return None
    line = styled(f"{'loss':<10}", "label").append(f"{losses[0]:.3f} ", style="default")
    line.append(f.sparkline(losses, min(60, max(width - 40, 10)), utf8=utf8), style="good")
    return line.append(f" {losses[-1]:.3f}", style="default")
