"""Training loss of the baseline, the best and the last experiment over the seconds of the budget."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from autoresearch.decision.scores import find
from autoresearch.report.canvas import LIGHT, Palette, drawable, new_figure
from autoresearch.types import CurvePoint, Experiment, Session

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def loss_curves(
    curves: Mapping[str, Sequence[CurvePoint]],
    *,
    palette: Palette = LIGHT,
    width: float = 9.6,
    height: float = 3.6,
) -> "Figure | None":
    """Draw training loss over the seconds of the budget, one line a label; None without a curve."""
    drawn = {
        label: [(p.seconds, p.loss) for p in points if p.loss is not None and math.isfinite(p.loss)]
        for label, points in curves.items()
    }
    drawn = {label: points for label, points in drawn.items() if len(points) > 1}
    if not drawn:
        return None
    figure, axes = new_figure(width, height, palette)
    styles = ((palette.discard, "--"), (palette.keep, "-"), (palette.other, ":"))
    settled: list[float] = []
    for (label, points), (color, dash) in zip(drawn.items(), styles, strict=False):
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            dash,
            color=color,
            label=drawable(label),
            lw=1.5,
        )
        end = points[-1][0]
        settled += [y for x, y in points if x > 0.08 * end]
    low, high = min(settled), max(settled)
    pad = max(0.05 * (high - low), 1e-4)
    axes.set_ylim(low - pad, high + pad)
    axes.set_xlabel("seconds of the budget", color=palette.faint)
    axes.set_ylabel("training loss, as reported", color=palette.faint)
    legend = axes.legend(fontsize=8.5, frameon=False, labelcolor=palette.ink)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def last_scored(session: Session) -> Experiment | None:
    """Return the newest experiment with a score."""
    return next((e for e in reversed(session.experiments) if e.val_bpb is not None), None)


def curve_labels(
    session: Session, curves: Mapping[int, Sequence[CurvePoint]]
) -> dict[str, Sequence[CurvePoint]]:
    """Return the curves of baseline, best and last under readable names, in this order."""
    names = {0: "#0 baseline", session.best: f"#{session.best} best"}
    last = last_scored(session)
    if last is not None:
        names.setdefault(last.number, f"#{last.number} last")
    if session.best == 0 and find(session, 0):
        names[0] = "#0 baseline, still the best"
    return {name: curves[number] for number, name in names.items() if number in curves}
