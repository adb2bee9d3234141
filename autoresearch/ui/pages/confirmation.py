"""What confirmations say, in words, lines and JSON: for `autoresearch confirm`, `log` and `show`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.text import Text

from autoresearch.decision.confirmation import carried
from autoresearch.types import Alert, Confirmation, Metric, Session
from autoresearch.ui import text as f
from autoresearch.ui.conclusion import difference
from autoresearch.ui.console import OutputMode, styled
from autoresearch.ui.tables import Cell, Column, folded, render

CARRIED_STYLES = {"carries": "good", "unclear": "default", "does not": "warning"}
EACH = (
    Column("#", align="right", min_width=3),
    Column("carries?"),
    Column("with it", align="right"),
    Column("95% interval", drop=1),
    Column("P", align="right", drop=2),
    Column("change", is_flexible=True),
)
INDENT = 15


def print_confirmations(
    mode: OutputMode,
    session: Session,
    found: Sequence[Confirmation],
    alerts: Sequence[Alert] = (),
) -> None:
    """Print what a command found out, and in `alerts` what it could not, in the form of the mode."""
    if mode.is_json:
        mode.json([confirmation_json(c) for c in found])
        return
    for alert in alerts:
        mode.warn(alert.text)
    if mode.is_quiet:
        for c in found:
            mode.data(f"{f.delta(c.delta)} {f.delta(c.low)} {f.delta(c.high)}")
    elif mode.is_tty:
        for line in screen_lines(session, found, mode.out.width):
            mode.data(line)
    else:
        for i, c in enumerate(found):
            if i:
                mode.data("")
            for name, value in confirmation_json(c).items():
                if value not in (None, ""):
                    shown = f"{value:.6f}" if isinstance(value, float) else str(value)
                    mode.data(f"{name}: {f.clean(shown)}")


def confirmation_json(confirmation: Confirmation) -> dict[str, Any]:
    """Return every number of a confirmation."""
    return {**asdict(confirmation), "gap": confirmation.gap}


def screen_lines(session: Session, found: Sequence[Confirmation], width: int) -> list[Text]:
    """Return the lines of all confirmations one command found."""
    each = [c for c in found if c.kind == "each"]
    lines = [
        line
        for c in found
        if c.kind != "each"
        for part in confirmation_lines(c, session.metric)
        for line in folded(part, width, INDENT)
    ]
    first = found[0] if found else None
    if first is not None and first.kind == "session" and word_of(first)[0] == "not confirmed":
        lines.append(_more_seeds("autoresearch confirm", first.num_trials))
    return lines + (each_lines(session, each, width) if each else [])


def word_of(c: Confirmation) -> tuple[str, str]:
    """Return the answer in a word or two, and its style."""
    if c.is_gain:
        return "confirmed", "good"
    return ("worse", "error") if c.is_harm else ("not confirmed", "warning")


def conditions(c: Confirmation) -> str:
    """Return on what it was measured."""
    return f"{c.split} split, {c.num_trials} fresh seeds each"


def question(c: Confirmation) -> str:
    """Return what was asked: `with 30 min of training`, `against #3`."""
    words = []
    if c.kind == "larger":
        words.append(f"with {f.clean(c.note)} in both")
    if c.kind == "longer":
        seconds = c.budget_seconds
        words.append(f"with {seconds / 60:g} min" if seconds >= 60 else f"with {seconds:g} s")
        words.append("of training")
    if c.reference or not words:
        words.append(f"against #{c.reference}")
    return " ".join(words)


def validation_text(c: Confirmation) -> str:
    """Return what validation said and how far the test split is from it; empty where it said nothing."""
    if c.validation_delta is None:
        return ""
    digits = f.decimals((c.high - c.low) / 2)
    gap = c.gap or 0.0
    text = f"validation promised {f.delta(c.validation_delta, digits)}"
    text += f"; on unseen data it is {abs(gap):.{digits}f} {'better' if gap < 0 else 'worse'}"
    return text + (": the gain does not carry over" if c.is_alarm else "")


def confirmation_lines(c: Confirmation, metric: Metric) -> list[Text]:
    """Return the answer, its conditions and the validation number."""
    word, style = word_of(c)
    head = Text(f"{word:<{INDENT}}", style=style)
    head.append(f"#{c.candidate} {question(c)}  ", style="default")
    head.append(difference(c), style="metric")
    detail = f"{f.clean(metric.on(c.split))} {f.score(c.reference_score)} -> {f.score(c.candidate_score)}:"
    detail += f" {f.delta(c.delta)}, 95%"
    detail += f" {f.bounds(c.low, c.high)}, {c.num_trials} fresh seeds of"
    detail += f" {f.duration(c.budget_seconds)} each"
    lines = [head, styled(" " * INDENT + detail, "muted")]
    if text := validation_text(c):
        lines.append(styled(" " * INDENT + text, "warning" if c.is_alarm else "muted"))
    return lines


def left_out_line(c: Confirmation) -> Text:
    """Return what one kept change is worth by leaving it out of the best."""
    word = carried(c)
    line = Text(f"{word:<{INDENT}}", style=CARRIED_STYLES[word])
    line.append(f"#{c.candidate} with and without it  ", style="default")
    line.append(f"{f.delta(c.delta)}  95% {f.bounds(c.low, c.high)}", style="metric")
    return line.append(f"  on the {conditions(c)}", style="muted")


def each_lines(session: Session, each: Sequence[Confirmation], width: int) -> list[Text]:
    """Return a table of the kept changes that were left out, the largest share of the gain first."""
    first = each[0]
    head = f"#{first.candidate} with and without each change, on the {conditions(first)}"
    lines = [styled(head, "heading")]
    rows = []
    for c in sorted(each, key=lambda c: -c.delta if c.is_maximized else c.delta):
        word = carried(c)
        description = next(
            (e.description for e in session.experiments if e.number == c.reference), ""
        )
        rows.append(
            [
                Cell(str(c.reference)),
                Cell(word, CARRIED_STYLES[word]),
                Cell(f.delta(c.delta), "metric"),
                Cell(f.bounds(c.low, c.high)),
                Cell(f.probability(c.p_carries)),
                Cell(f.clean(description)),
            ]
        )
    lines += render(EACH, rows, width, flexible_min=20)
    for c in each:
        if carried(c) == "does not":
            line = styled(f"#{c.reference} does not carry the gain: `", "default")
            line.append(f"autoresearch revert {c.reference}", style="command")
            lines.append(line.append("`", style="default"))
    if any(carried(c) == "unclear" for c in each):
        lines.append(_more_seeds("autoresearch confirm --each", first.num_trials))
    return lines


def _more_seeds(command: str, num_trials: int) -> Text:
    line = styled("more seeds may decide: `", "muted")
    line.append(f"{command} -n {2 * num_trials}", style="command")
    return line.append("`", style="muted")
