"""Curves in the terminal: points on a grid of characters, a mark for each series, axes with numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.text import Text

from autoresearch.types import CurvePoint
from autoresearch.ui.console import styled
from autoresearch.ui.text import duration


@dataclass(frozen=True)
class Series:
    """One curve."""

    label: str
    mark: str
    points: Sequence[tuple[float, float]]
    """(x, y) in ascending x."""
    style: str = ""


def loss_points(curve: Sequence[CurvePoint]) -> list[tuple[float, float]]:
    """Return (seconds, loss) of the points of a training curve that have a finite loss."""
    return [(p.seconds, p.loss) for p in curve if p.loss is not None and abs(p.loss) < float("inf")]


def chart(series: Sequence[Series], *, width: int, height: int = 10) -> list[Text]:
    """Draw series on one grid, earlier ones on top; the steep start is cut off at the upper edge.

    Returns:
        `height` rows, an axis with seconds and a legend; empty without two points of any series.
    """
    series = [s for s in series if len(s.points) > 1]
    if not series:
        return []
    points = [point for s in series for point in s.points]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    settled = [y for x, y in points if x >= left + 0.1 * (right - left)] or [y for _, y in points]
    low, high = min(y for _, y in points), max(settled)
    if high <= low:
        high = low + 1e-9
    columns = max(width - 10, 10)
    grid: list[list[tuple[str, str] | None]] = [[None] * columns for _ in range(height)]
    for s in reversed(series):
        for column, y in _resample(s.points, left, right, columns):
            if y > high + (high - low) / height:
                continue
            row = round((high - min(y, high)) / (high - low) * (height - 1))
            grid[row][column] = (s.mark, s.style)
    lines = []
    for i, cells in enumerate(grid):
        is_labelled = i in {0, height // 2, height - 1}
        value = high - (high - low) * i / (height - 1)
        line = styled(f"{value:7.3f} " if is_labelled else " " * 8, "label")
        line.append("|", style="label")
        for cell in cells:
            line.append(cell[0] if cell else " ", style=cell[1] if cell else None)
        line.rstrip()
        lines.append(line)
    end = duration(right)
    lines.append(styled(" " * 8 + "+" + "-" * columns, "label"))
    lines.append(styled(" " * 9 + duration(left).ljust(columns - len(end)) + end, "label"))
    legend = Text(" " * 9)
    for s in series:
        legend.append(s.mark, style=s.style).append(f" {s.label}   ", style="default")
    legend.rstrip()
    return [*lines, legend]


def _resample(
    points: Sequence[tuple[float, float]], left: float, right: float, columns: int
) -> list[tuple[int, float]]:
    """Return one value a column: means where points are dense, straight lines where they are not."""
    span = (right - left) or 1.0
    sums: dict[int, list[float]] = {}
    for x, y in points:
        sums.setdefault(round((x - left) / span * (columns - 1)), []).append(y)
    known = [(column, sum(ys) / len(ys)) for column, ys in sorted(sums.items())]
    result = known[:1]
    for (a, ya), (b, yb) in pairwise(known):
        result += [(c, ya + (yb - ya) * (c - a) / (b - a)) for c in range(a + 1, b + 1)]
    return result
