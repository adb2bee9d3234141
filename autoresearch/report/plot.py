"""The staircase of a session and its loss curves, drawn by matplotlib to SVG or PNG.

SVG for the page carries sentinel colours that become CSS variables, so that one drawing serves light and dark; its text
is text. Nothing a model wrote is read as mathematics or as a glyph the font does not have.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from autoresearch.lab.summary import Summary, bpb_under, find, is_doubtful
from autoresearch.types import CurvePoint, Experiment, Session, Verdict
from autoresearch.ui.format import clean, fit, parse_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

XAxis = Literal["experiment", "hour"]

MAX_LABELS = 14
LABEL_CELLS = 34


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


def _figure(width: float, height: float, palette: Palette) -> "tuple[Figure, Axes]":
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


class Drawing(NamedTuple):
    """A figure and what to say of its points when the mouse rests on them."""

    figure: "Figure"
    titles: Mapping[str, Sequence[str]]
    """Id of a group of points -> one text a point."""


@dataclass(frozen=True)
class _Point:
    experiment: Experiment
    x: float
    y: float
    """NaN without a score."""

    @property
    def is_scored(self) -> bool:
        return math.isfinite(self.y)


def _points(session: Session, x: XAxis) -> list[_Point]:
    setup = session.setup.key if session.setup else ""
    start = parse_time(session.started_at)
    points = []
    for e in session.experiments:
        if e.verdict is None:
            continue
        place: float | None = float(e.number)
        if x == "hour":
            at = parse_time(e.judged_at)
            place = (at - start).total_seconds() / 3600 if at and start else None
        if place is None:
            continue
        y = bpb_under(e, setup) if setup else e.val_bpb
        y = y if y is not None else e.val_bpb
        points.append(_Point(e, place, math.nan if y is None else y))
    return points


def staircase(
    session: Session,
    summary: Summary,
    *,
    x: XAxis = "experiment",
    palette: Palette = LIGHT,
    width: float = 9.6,
    height: float = 4.8,
    title: bool = False,
) -> Drawing:
    """Draw the running best as a staircase, keeps labelled, discards faint, failures as ticks below.

    Args:
        session: What to draw; numbers under the current setup where there is one.
        summary: Its summary, for the noise.
        x: Experiments or hours.
        palette: Colours.
        width: Inches.
        height: Inches.
        title: Whether to write counts and gain above.
    """
    figure, axes = _figure(width, height, palette)
    points = _points(session, x)
    steps = _staircase_points(points)
    scored = [p for p in points if p.is_scored]
    axes.set_xlabel("experiment" if x == "experiment" else "hours", color=palette.faint)
    axes.set_ylabel("validation bits per byte (lower is better)", color=palette.faint)
    if not scored:
        _plain_text(axes, 0.5, 0.5, "nothing measured yet", palette.faint, transform="axes")
        axes.set_xticks([])
        axes.set_yticks([])
        return Drawing(figure, {})
    low, high = _limits(steps, scored, summary.noise)
    right = max(p.x for p in points)
    right += max(right * 0.02, 0.5 if x == "experiment" else 0.02)
    _draw_steps(axes, steps, right, summary.noise, palette)
    edge = high - 0.015 * (high - low)
    shown = [p for p in scored if p.y <= edge]
    above = [p for p in scored if p.y > edge]
    titles = _draw_points(axes, shown, palette)
    _draw_edges(axes, points, above, palette)
    left = 0.0 if x == "hour" else -0.5
    axes.set_xlim(left - right * 0.01, right)
    axes.set_ylim(low, high)
    axes.ticklabel_format(axis="y", useOffset=False)
    if x == "experiment":
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if title:
        axes.set_title(plot_title(summary), color=palette.ink, fontsize=11, loc="left")
    _legend(axes, palette)
    _draw_labels(figure, axes, steps, shown, palette)
    return Drawing(figure, titles)


def plot_title(summary: Summary) -> str:
    """Return counts and gain in words."""
    text = f"{summary.num_tried} experiments, {summary.num_kept} kept"
    if summary.delta is not None and summary.baseline_bpb is not None and summary.num_kept:
        text += f": {summary.baseline_bpb:.4f} to {summary.best_bpb:.4f} bits per byte"
        if summary.relative is not None:
            text += f" ({summary.relative * 100:+.2f}%)"
    return text


def _staircase_points(points: Sequence[_Point]) -> list[_Point]:
    return [
        p
        for p in points
        if p.is_scored and p.experiment.verdict is Verdict.KEEP and not p.experiment.reverted_by
    ]


def _limits(
    steps: Sequence[_Point], scored: Sequence[_Point], noise: float | None
) -> tuple[float, float]:
    """Return the y range: all of the staircase, and of the rest what does not flatten it."""
    values = [p.y for p in steps or scored]
    low, top = min(values), max(values)
    span = max(top - low, 6 * (noise or 0.0), abs(top) * 1e-3, 1e-6)
    rest = sorted(p.y for p in scored)
    typical = rest[min(int(0.85 * len(rest)), len(rest) - 1)]
    high = min(max(top + 0.12 * span, typical + 0.05 * span), top + 0.6 * span)
    return low - 0.22 * span, high


def _draw_steps(
    axes: "Axes", steps: Sequence[_Point], right: float, noise: float | None, palette: Palette
) -> None:
    if not steps:
        return
    xs = [p.x for p in steps] + [right]
    ys = [p.y for p in steps] + [steps[-1].y]
    if noise:
        axes.fill_between(
            xs,
            [y - 2 * noise for y in ys],
            [y + 2 * noise for y in ys],
            step="post",
            color=palette.band,
            alpha=0.13,
            linewidth=0,
            label="best, with twice the noise",
            gid="noise",
        )
    axes.step(
        xs, ys, where="post", color=palette.keep, linewidth=1.6, zorder=3, label="_best", gid="best"
    )


def _draw_points(axes: "Axes", shown: Sequence[_Point], palette: Palette) -> dict[str, list[str]]:
    """Draw the scored experiments and return what to say of each, by the id of its group."""
    titles: dict[str, list[str]] = {}
    groups: list[tuple[str, list[_Point], dict[str, Any]]] = [
        (
            "discarded",
            [p for p in shown if p.experiment.verdict is not Verdict.KEEP],
            {"color": palette.discard, "s": 14, "alpha": 0.55, "linewidths": 0},
        ),
        (
            "kept",
            [p for p in shown if _is_sure(p.experiment)],
            {"color": palette.keep, "s": 34, "zorder": 4, "linewidths": 0},
        ),
        (
            "kept, may be luck",
            [p for p in shown if _is_unsure(p.experiment)],
            {
                "facecolors": "none",
                "edgecolors": palette.doubtful,
                "s": 34,
                "zorder": 4,
                "linewidths": 1.4,
            },
        ),
        (
            "undone",
            [p for p in shown if p.experiment.reverted_by],
            {"color": palette.doubtful, "s": 34, "marker": "x", "zorder": 4},
        ),
    ]
    for label, points, style in groups:
        if points:
            made = axes.scatter([p.x for p in points], [p.y for p in points], label=label, **style)
            name = "points-" + re.sub(r"[^a-z]+", "-", label)
            made.set_gid(name)
            titles[name] = [
                f"#{p.experiment.number}  {p.y:.6f}  {fit(clean(p.experiment.description), 120)}"
                for p in points
            ]
    return titles


def _is_sure(e: Experiment) -> bool:
    return e.verdict is Verdict.KEEP and not e.reverted_by and not is_doubtful(e)


def _is_unsure(e: Experiment) -> bool:
    return e.verdict is Verdict.KEEP and not e.reverted_by and is_doubtful(e)


def _draw_edges(
    axes: "Axes", points: Sequence[_Point], above: Sequence[_Point], palette: Palette
) -> None:
    from matplotlib.transforms import blended_transform_factory

    edge = blended_transform_factory(axes.transData, axes.transAxes)
    for verdict, color in ((Verdict.CRASH, palette.crash), (Verdict.INVALID, palette.third)):
        xs = [p.x for p in points if p.experiment.verdict is verdict]
        if xs:
            axes.vlines(
                xs, 0, 0.035, transform=edge, color=color, linewidth=1.5, label=verdict.value
            )
    if above:
        axes.scatter(
            [p.x for p in above],
            [0.985] * len(above),
            transform=edge,
            marker="^",
            s=16,
            color=palette.discard,
            alpha=0.7,
            linewidths=0,
            label=f"{len(above)} above the scale",
            clip_on=False,
        )


def _legend(axes: "Axes", palette: Palette) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles,
            labels,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.13),
            ncols=7,
            fontsize=8,
            frameon=False,
            labelcolor=palette.faint,
            handletextpad=0.4,
            columnspacing=1.4,
        )


def _draw_labels(
    figure: "Figure",
    axes: "Axes",
    steps: Sequence[_Point],
    shown: Sequence[_Point],
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
    figure, axes = _figure(width, height, palette)
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
    from html import escape

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
    from html import escape

    start = text.find(f'<g id="{group}">')
    if start < 0:
        return text
    remaining = iter(titles)

    def titled(match: re.Match[str]) -> str:
        return f"<use {match[1]}><title>{escape(next(remaining))}</title></use>"

    changed = re.sub(r"<use ([^>]*?)/>", titled, text[start:], count=len(titles))
    return text[:start] + changed


def to_bytes(session: Session, kind: str, *, x: XAxis = "experiment") -> bytes:
    """Return the staircase of a session as the bytes of a `png` or `svg` file, on white."""
    from autoresearch.lab.summary import summarize

    figure, titles = staircase(session, summarize(session), x=x, title=True)
    if kind == "svg":
        return svg(figure, salt="progress", inline=False, titles=titles).encode()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, facecolor=LIGHT.paper, metadata={"Software": None})
    return out.getvalue()


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


def _plain_text(
    axes: "Axes", x: float, y: float, text: str, color: str, *, transform: str = "data"
) -> None:
    place = axes.transAxes if transform == "axes" else axes.transData
    label = axes.text(x, y, text, color=color, ha="center", va="center", transform=place)
    label.set_parse_math(False)


def last_scored(session: Session) -> Experiment | None:
    """Return the newest experiment with a score."""
    return next((e for e in reversed(session.experiments) if e.val_bpb is not None), None)


def curve_labels(session: Session, curves: Mapping[int, Sequence[CurvePoint]]) -> dict[str, Any]:
    """Return the curves of baseline, best and last under readable names, in this order."""
    names = {0: "#0 baseline", session.best: f"#{session.best} best"}
    last = last_scored(session)
    if last is not None:
        names.setdefault(last.number, f"#{last.number} last")
    if session.best == 0 and find(session, 0):
        names[0] = "#0 baseline, still the best"
    return {name: curves[number] for number, name in names.items() if number in curves}
