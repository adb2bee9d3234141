"""One trial as `autoresearch try` and `show` print it."""

from dataclasses import fields

from rich.text import Text

from autoresearch.types import CurvePoint, Outcome, Trial, TrialResult
from autoresearch.ui import text as f
from autoresearch.ui.console import OutputMode
from autoresearch.ui.styles import styled


def print_trial(mode: OutputMode, result: TrialResult) -> None:
    """Print the result of a trial that belongs to no session."""
    if mode.is_json:
        from autoresearch.ui.pages.as_json import curve_json, trial_json

        found = trial_json(Trial(result, setup="", started_at="", event=""))
        for name in ("setup", "started_at", "event", "confirmation"):
            del found[name]
        found["curve"] = curve_json(result.curve)
        found["log_tail"] = f.clean(result.log_tail, lines=True)
        mode.json(found)
        return
    if mode.is_quiet:
        mode.data(f.bpb(result.bpb) if result.ok else _outcome(result))
        return
    if mode.is_tty:
        for line in trial_lines(result, width=mode.out.width, utf8=mode.is_utf8):
            mode.data(line)
        return
    if not result.ok and result.log_tail:
        mode.say(f.clean(result.log_tail, lines=True))
    for name, value in plain_values(result).items():
        mode.data(f"{name}: {value}")


def plain_values(result: TrialResult) -> dict[str, str]:
    """Return the figures of a trial by name, as a pipe gets them; what is missing is left out."""
    exact = {"bpb", "claimed_bpb", "audit_se"}
    values = {}
    for field in fields(TrialResult):
        value = getattr(result, field.name)
        if field.name in {"curve", "log_tail", "extra"} or value in (None, ""):
            continue
        shown = str(value)
        if isinstance(value, float):
            shown = f"{value:.6f}" if field.name in exact else f"{value:.6g}"
        name = field.name
        if name == "bpb":
            name = "val_bpb" if result.split == "validation" else "test_bpb"
        values[name] = f.clean(shown)
    return values


def _outcome(result: TrialResult) -> str:
    return f.clean(f"{result.outcome.value} {result.reason}").strip()


def trial_lines(result: TrialResult, *, width: int = 100, utf8: bool = True) -> list[Text]:
    """Return score, judge's figures, speed, memory and times; for a failure why and the log's end."""
    r = result
    lines = []
    if r.ok:
        name = "test_bpb" if r.split == "test" else "val_bpb"
        head = styled(f"{name:<10}", "label").append(f.bpb(r.bpb), style="metric")
        if r.num_audited:
            head.append(f"   audited at {r.num_audited} positions", style="default")
            if r.audit_se is not None:
                size = f"{r.audit_se:.6f}" if r.audit_se >= 5e-7 else "below 0.000001"
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
    losses = [p.loss for p in points if p.loss is not None and abs(p.loss) < float("inf")]
    if len(losses) < 3:
        return None
    line = styled(f"{'loss':<10}", "label").append(f"{losses[0]:.3f} ", style="default")
    line.append(f.sparkline(losses, min(60, max(width - 40, 10)), utf8=utf8), style="good")
    return line.append(f" {losses[-1]:.3f}", style="default")
