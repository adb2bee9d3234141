"""A confirmation as `autoresearch confirm` prints it."""

from collections.abc import Sequence
from dataclasses import asdict

from rich.text import Text

from autoresearch.lab.confirmation import carry_over
from autoresearch.types import Confirmation, Session
from autoresearch.ui import format as f
from autoresearch.ui.console import OutputMode

KINDS = {
    "longer": "with a longer training",
    "larger": "with constants set in both",
    "each": "one kept change left out",
}


def print_confirmations(mode: OutputMode, session: Session, found: Sequence[Confirmation]) -> None:
    """Print what was found: lines for a person, one tab-separated row each for a pipe, JSON."""
    if mode.is_json:
        mode.json([confirmation_json(session, c) for c in found])
        return
    if not found and session.alerts:
        mode.warn(session.alerts[-1].text)
    for c in found:
        if mode.is_quiet:
            mode.data(f"{f.delta(c.delta)} {f.delta(c.low)} {f.delta(c.high)}")
        elif mode.is_tty:
            for line in confirmation_lines(session, c):
                mode.data(line)
        else:
            for name, value in confirmation_json(session, c).items():
                if value not in (None, ""):
                    shown = f"{value:.6f}" if isinstance(value, float) else str(value)
                    mode.data(f"{name}: {f.clean(shown)}")


def confirmation_json(session: Session, confirmation: Confirmation) -> dict[str, object]:
    """Return every number of a confirmation and what validation said of the same two."""
    seen = carry_over(session, confirmation)
    return {
        **asdict(confirmation),
        "validation_delta": seen.validation_delta,
        "gap": seen.gap,
        "is_alarm": seen.is_alarm,
    }


def confirmation_lines(session: Session, confirmation: Confirmation) -> list[Text]:
    """Return verdict, difference with interval, and the validation number beside it."""
    c = confirmation
    word, style = "confirmed", "good"
    if c.low > 0:
        word, style = "worse", "error"
    elif c.high >= 0:
        word, style = "not confirmed", "warning"
    pair = f"#{c.candidate} against #{c.reference}"
    if c.kind == "each":
        pair = f"#{c.candidate} with against without #{c.reference}"
        word = {"confirmed": "carries the gain", "not confirmed": "unclear"}.get(word, "does harm")
    head = Text(f"{word:<18}", style=style).append(
        f"{pair}  {f.delta(c.delta)}  95% [{f.delta(c.low)}, {f.delta(c.high)}]", style="metric"
    )
    name = "test_bpb" if c.split == "test" else "val_bpb"
    detail = f"{name} {f.bpb(c.reference_bpb)} -> {f.bpb(c.candidate_bpb)}"
    detail += f", {c.num_trials} fresh seeds of {f.duration(c.budget_seconds)}"
    if c.kind in KINDS and c.kind != "each":
        detail += f", {KINDS[c.kind]}"
    if c.note and c.kind != "each":
        detail += f": {f.clean(c.note)}"
    lines = [head, Text(" " * 18 + detail, style="muted")]
    seen = carry_over(session, c)
    if seen.validation_delta is not None and c.kind in ("session", "pair"):
        line = Text(" " * 18, style="muted")
        line.append(f"validation says {f.delta(seen.validation_delta)}, gap {f.delta(seen.gap)}")
        if seen.is_alarm:
            line.append("  the gain does not carry over", style="warning")
        lines.append(line)
    if c.kind == "each" and c.p_real < 0.5:
        lines.append(Text(" " * 18).append(f"autoresearch revert {c.reference}", style="command"))
    return lines
