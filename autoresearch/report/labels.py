"""Labels on the staircase: what each large gain changed, never over a line, a point or another label."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from autoresearch.report.canvas import Palette, drawable
from autoresearch.types import Experiment, Verdict
from autoresearch.ui.text import clean, fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LABELS = 14
LABEL_CELLS = 34


class Place(Protocol):
    """An experiment and where it is drawn."""

    @property
    def experiment(self) -> Experiment:
        """Which."""
        ...

    @property
    def x(self) -> float:
        """In data."""
        ...

    @property
    def y(self) -> float:
        """In data."""
        ...


def draw_labels(
    figure: "Figure",
    axes: "Axes",
    steps: Sequence[Place],
    shown: Sequence[Place],
    palette: Palette,
) -> None:
    """Write what the largest keeps changed, without overlaps; the empty corner lies below the stairs."""
    kept = [p for p in steps if p.experiment.number != 0]
    gains = {p.experiment.number: before.y - p.y for before, p in pairwise(steps)}
    chosen = sorted(kept, key=lambda p: -gains.get(p.experiment.number, 0.0))[:MAX_LABELS]
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    area = axes.get_window_extent(renderer)
    taken: list[Any] = []
    leaders: list[tuple[Any, Any]] = []
    stairs = [axes.transData.transform((p.x, p.y)) for p in steps]
    dots = [
        axes.transData.transform((p.x, p.y))
        for p in shown
        if p.experiment.verdict is not Verdict.KEEP
    ]
    for p in chosen:
        e = p.experiment
        anchor = axes.transData.transform((p.x, p.y))
        long = f"#{e.number} {fit(drawable(clean(e.description)), LABEL_CELLS)}"
        short = f"#{e.number}"
        for text, avoided in ((long, dots), (long, []), (short, dots), (short, [])):
            placed = _place(
                axes, renderer, text, anchor, area, taken, stairs, avoided, leaders, palette
            )
            if placed is not None:
                taken.append(placed)
                break


def _place(
    axes: "Axes",
    renderer: Any,
    text: str,
    anchor: Any,
    area: Any,
    taken: list[Any],
    stairs: Sequence[Any],
    avoided: Sequence[Any],
    leaders: list[tuple[Any, Any]],
    palette: Palette,
) -> Any:
    label = axes.annotate(
        text,
        (anchor[0], anchor[1]),
        xycoords="figure pixels",
        xytext=(0, 0),
        textcoords="offset points",
        fontsize=7.5,
        color=palette.ink,
        annotation_clip=False,
        zorder=6,
    )
    label.set_parse_math(False)
    offsets: list[tuple[float, float, Any, Any]] = [
        (-6, -3 - 9 * i, "right", "top") for i in range(9)
    ]
    offsets += [(7, 4 + 9 * i, "left", "bottom") for i in range(4)]
    offsets += [(-6, 4 + 9 * i, "right", "bottom") for i in range(3)]
    for dx, dy, horizontal, vertical in offsets:
        label.set_position((dx, dy))
        label.set_horizontalalignment(horizontal)
        label.set_verticalalignment(vertical)
        box = label.get_window_extent(renderer).padded(1.0)
        is_inside = (
            area.x0 <= box.x0 and box.x1 <= area.x1 and area.y0 <= box.y0 and box.y1 <= area.y1
        )
        if not is_inside or any(box.overlaps(other) for other in taken):
            continue
        if _hits_stairs(box, stairs) or any(box.contains(*dot) for dot in avoided):
            continue
        if any(_crosses(box, *line) for line in leaders):
            continue
        if abs(dy) > 14:
            edge = (box.x1 - 1 if horizontal == "right" else box.x0 + 1, (box.y0 + box.y1) / 2)
            if any(_crosses(other, anchor, edge) for other in taken):
                continue
            leaders.append((anchor, edge))
            _leader(axes, anchor, edge, palette)
        _to_data(axes, label, anchor, dx, dy)
        return box
    label.remove()
    return None


def _to_data(axes: "Axes", label: Any, anchor: Any, dx: float, dy: float) -> None:
    """Tie a label to its point in data, so that saving at another resolution moves both."""
    label.xy = tuple(axes.transData.inverted().transform(anchor))
    label.xycoords = "data"
    label.set_position((dx, dy))


def _crosses(box: Any, start: Any, end: Any) -> bool:
    """Whether a straight line between two points runs through a box."""
    return any(
        box.contains(
            start[0] + (end[0] - start[0]) * i / 24, start[1] + (end[1] - start[1]) * i / 24
        )
        for i in range(25)
    )


def _leader(axes: "Axes", anchor: Any, edge: Any, palette: Palette) -> None:
    start, end = (axes.transData.inverted().transform(point) for point in (anchor, edge))
    axes.plot(
        [start[0], end[0]],
        [start[1], end[1]],
        color=palette.faint,
        linewidth=0.5,
        alpha=0.7,
        zorder=2,
    )


def _hits_stairs(box: Any, stairs: Sequence[Any]) -> bool:
    """Whether a box touches the staircase: its flat parts, its risers and its points."""
    for i, (x, y) in enumerate(stairs):
        right = stairs[i + 1][0] if i + 1 < len(stairs) else math.inf
        if box.y0 - 1 < y < box.y1 + 1 and box.x0 < right and box.x1 > x - 2:
            return True
        if i + 1 < len(stairs):
            below = stairs[i + 1][1]
            if box.x0 < right < box.x1 and box.y0 < y and box.y1 > below:
                return True
    return False
