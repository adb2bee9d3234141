"""What all drawings of a report share: colours, axes, labels that do not overlap, SVG for the page.

SVG for the page carries sentinel colours that become CSS variables, so that one drawing serves light and dark; its text
is text. Nothing a model wrote is read as mathematics or as a glyph the font does not have.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from autoresearch.types import Experiment, Verdict
from autoresearch.ui.text import clean, fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Palette:
    """Colours by meaning."""

    ink: str
    faint: str
    keep: str
    doubtful: str
    discard: str
    crash: str
    band: str
    grid: str
    paper: str
    other: str
    third: str


LIGHT = Palette(
    ink="#1d2733",
    faint="#5b6673",
    keep="#0a7d4b",
    doubtful="#b06a00",
    discard="#8d97a3",
    crash="#c0392b",
    band="#0a7d4b",
    grid="#e3e7ec",
    paper="#ffffff",
    other="#2b5fb3",
    third="#8b4a9e",
)
PAGE = Palette(
    ink="#010101",
    faint="#020202",
    keep="#030303",
    doubtful="#040404",
    discard="#050505",
    crash="#060606",
    band="#070707",
    grid="#080808",
    paper="#090909",
    other="#0a0a0a",
    third="#0b0b0b",
)
"""Sentinels that `_with_variables` replaces by `var(--plot-<name>)`."""


def new_figure(height: float, palette: Palette, *, width: float = 9.6) -> "tuple[Figure, Axes]":
    """Return a figure of `width` inches by `height` with bare axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="none", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.grid(visible=True, color=palette.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in {"left", "bottom"})
        spine.set_color(palette.grid)
    axes.tick_params(colors=palette.faint, labelsize=9, length=0)
    return figure, axes


def svg(
    figure: "Figure",
    *,
    salt: str,
    label: str = "",
    inline: bool = True,
    titles: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return a figure as SVG text.

    Args:
        figure: What to draw.
        salt: Makes ids differ between the drawings of one page, and the same every time.
        label: What a screen reader says.
        inline: For a page: CSS variables for colours, size by the page, no prolog.
        titles: Of points, as in `Drawing`.
    """
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(
            out,
            format="svg",
            facecolor="none" if inline else LIGHT.paper,
            metadata={"Date": None},
        )
    text = out.getvalue()
    for name, texts in (titles or {}).items():
        text = _with_titles(text, name, texts)
    if not inline:
        return text
    text = text[text.index("<svg") :]
    for name, color in vars(PAGE).items():
        text = text.replace(color, f"var(--plot-{name})")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s(?:width|height)=\"[\d.]+pt\"", "", text, count=2)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def _with_titles(text: str, group: str, titles: Sequence[str]) -> str:
    """Give each point of a group a `<title>`, which browsers show and screen readers read."""
    start = text.find(f'<g id="{group}">')
    if start < 0:
        return text
    remaining = iter(titles)

    def titled(match: re.Match[str]) -> str:
        return f"<use {match[1]}><title>{escape(next(remaining))}</title></use>"

    changed = re.sub(r"<use ([^>]*?)/>", titled, text[start:], count=len(titles))
    return text[:start] + changed


def drawable(text: str) -> str:
    """Replace characters the drawing's font does not have."""
    if text.isascii():
        return text
    known = _characters()
    return "".join(c if ord(c) in known else "?" for c in text)


def _characters() -> frozenset[int]:
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(findfont("DejaVu Sans")).get_charmap())


MAX_LABELS = 14
LABEL_CELLS = 34


@dataclass(frozen=True)
class Place:
    """An experiment and where it is drawn, in data."""

    experiment: Experiment
    x: float
    y: float
    """Its score, signed so that less is better; NaN without one."""

    @property
    def is_scored(self) -> bool:
        """Whether it has a place on the scale."""
        return math.isfinite(self.y)


def draw_labels(
    figure: "Figure",
    axes: "Axes",
    steps: Sequence[Place],
    shown: Sequence[Place],
    palette: Palette,
) -> None:
    """Write what the largest keeps changed, without overlaps; the empty corner is below the stairs."""
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
    label.set_gid("label")
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
        gid="label-line",
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
