"""The plots of a session: the staircase of scores, and the training curves."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from autoresearch.decision.scores import find, is_doubtful
from autoresearch.events import parse_time
from autoresearch.report.assets import last_scored
from autoresearch.report.canvas import LIGHT, Palette, Place, draw_labels, drawable, new_figure, svg
from autoresearch.types import CurvePoint, Session, Verdict, said
from autoresearch.ui.charts import loss_points
from autoresearch.ui.conclusion import subject
from autoresearch.ui.summary import Summary, running_best, summarize
from autoresearch.ui.text import clean, fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


XAxis = Literal["experiment", "hour"]


class Drawing(NamedTuple):
    """A figure and what to say of its points when the mouse rests on them."""

    figure: "Figure"
    titles: Mapping[str, Sequence[str]]
    """Id of a group of points -> one text a point."""


def _points(session: Session, x: XAxis) -> list[Place]:
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
        score = e.score_under(setup) if setup else e.score
        score = score if score is not None else e.score
        points.append(Place(e, place, math.nan if score is None else session.metric.sign * score))
    return points


def staircase(
    session: Session,
    summary: Summary,
    *,
    x: XAxis = "experiment",
    palette: Palette = LIGHT,
    title: bool = False,
    is_narrow: bool = False,
) -> Drawing:
    """Draw the running best as a staircase, keeps labelled, discards faint, failures as ticks below.

    Numbers are those under the current setup where there is one. A title says what was trained, and the verdict;
    a narrow drawing, for a phone, has no labels.
    """
    figure, axes = new_figure(4.8, palette, width=4.8 if is_narrow else 9.6)
    points = _points(session, x)
    stairs = {number for number, _ in running_best(session)}
    steps = [p for p in points if p.is_scored and p.experiment.number in stairs]
    scored = [p for p in points if p.is_scored]
    counts = f" ({summary.num_tried} tried, {summary.num_kept} kept)" if summary.num_tried else ""
    axes.set_xlabel(("experiment" if x == "experiment" else "hours") + counts, color=palette.faint)
    what = clean(session.metric.title)
    axes.set_ylabel(what, color=palette.faint, gid="label-y")
    if not scored:
        axes.text(
            0.5,
            0.5,
            "nothing measured yet",
            color=palette.faint,
            ha="center",
            transform=axes.transAxes,
        )
        axes.set_xticks([])
        axes.set_yticks([])
        return Drawing(figure, {})
    low, high = _limits(steps, scored, summary.noise)
    axes.set_ylim(low, high)
    axes.ticklabel_format(axis="y", useOffset=False)
    if session.metric.sign < 0:  # places are losses, the axis shows scores
        axes.set_ylim(high, low)
        axes.yaxis.set_major_formatter(lambda y, _: f"{-y:g}")
    right = max(p.x for p in points)
    right += max(right * 0.02, 0.5 if x == "experiment" else 0.02)
    _draw_steps(axes, steps, right, summary.noise, palette)
    edge = high - 0.015 * (high - low)
    shown = [p for p in scored if p.y <= edge]
    above = [p for p in scored if p.y > edge]
    titles = _draw_points(axes, shown, steps, palette)
    _draw_edges(axes, points, above, palette)
    left = 0.0 if x == "hour" else -0.5
    axes.set_xlim(left - right * 0.01, right)
    if x == "experiment":
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if title:
        _draw_title(axes, session, summary, palette)
    _legend(axes, palette, most=2 if is_narrow else 6)
    if not is_narrow:
        draw_labels(figure, axes, steps, shown, palette)
    return Drawing(figure, titles)


def _draw_title(axes: "Axes", session: Session, summary: Summary, palette: Palette) -> None:
    """Write the verdict in its colour over the axes, and above it what was trained."""
    found = summary.conclusion
    color = {"good": palette.keep, "warning": palette.doubtful}.get(found.style, palette.ink)
    what = subject(session) or clean(session.tag)
    first = axes.set_title(drawable(what), color=palette.ink, fontsize=11, loc="left", pad=22)
    verdict = drawable(fit(str(found).replace("+-", "\u00b1"), 110))
    second = axes.text(0, 1.02, verdict, color=color, fontsize=9.5, transform=axes.transAxes)
    for text in (first, second):
        text.set_parse_math(False)


def _limits(
    steps: Sequence[Place], scored: Sequence[Place], noise: float | None
) -> tuple[float, float]:
    """Return the y range: all of the staircase, and of the rest what does not flatten it."""
    values = [p.y for p in steps or scored]
    low, top = min(values), max(values)
    span = max(top - low, 6 * (noise or 0.0), abs(top) * 1e-3, 1e-6)
    rest = sorted(p.y for p in scored)
    typical = rest[min(int(0.85 * len(rest)), len(rest) - 1)]
    high = min(max(top + 0.12 * span, typical + 0.05 * span), top + 0.6 * span)
    return low - max(0.22 * span, 2.3 * (noise or 0.0)), high


def _draw_steps(
    axes: "Axes", steps: Sequence[Place], right: float, noise: float | None, palette: Palette
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
            label="within twice the noise of the best",
            gid="noise",
        )
    axes.step(
        xs, ys, where="post", color=palette.keep, linewidth=1.6, zorder=3, label="_best", gid="best"
    )


def _draw_points(
    axes: "Axes", shown: Sequence[Place], steps: Sequence[Place], palette: Palette
) -> dict[str, list[str]]:
    """Draw the scored experiments and return what to say of each, by the id of its group."""
    titles: dict[str, list[str]] = {}
    standing = [
        p for p in shown if p.experiment.verdict is Verdict.KEEP and not p.experiment.reverted_by
    ]
    missed = [p for p in shown if p.experiment.verdict not in (Verdict.KEEP, Verdict.HELD)]
    below = [
        p for p in missed if p.y < next((s.y for s in reversed(steps) if s.x <= p.x), -math.inf)
    ]
    faint = {"s": 14, "alpha": 0.55}
    groups: list[tuple[str, list[Place], dict[str, Any]]] = [
        (
            "discarded",
            [p for p in missed if p not in below],
            {**faint, "color": palette.discard, "linewidths": 0},
        ),
        (
            "better, but by luck: discarded",
            below,
            {**faint, "facecolors": "none", "edgecolors": palette.discard, "linewidths": 1},
        ),
        (
            "held for you",
            [p for p in shown if p.experiment.verdict is Verdict.HELD],
            {"color": palette.doubtful, "s": 34, "marker": "^", "zorder": 4},
        ),
        (
            "kept",
            [p for p in standing if not is_doubtful(p.experiment)],
            {"color": palette.keep, "s": 34, "zorder": 4, "linewidths": 0},
        ),
        (
            "kept, may be luck",
            [p for p in standing if is_doubtful(p.experiment)],
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
                f"#{p.experiment.number}  {p.experiment.score or 0.0:.6f}  {fit(clean(p.experiment.description), 120)}"
                for p in points
            ]
    return titles


def _draw_edges(
    axes: "Axes", points: Sequence[Place], above: Sequence[Place], palette: Palette
) -> None:
    from matplotlib.transforms import blended_transform_factory

    edge = blended_transform_factory(axes.transData, axes.transAxes)
    groups = [
        ("crash", Verdict.CRASH, False, palette.crash),
        (said("crash", "slow"), Verdict.CRASH, True, palette.discard),
        ("invalid", Verdict.INVALID, False, palette.third),
    ]
    for label, verdict, is_slow, color in groups:
        xs = [
            p.x
            for p in points
            if p.experiment.verdict is verdict and (p.experiment.reason == "slow") is is_slow
        ]
        if xs:
            axes.vlines(xs, 0, 0.035, transform=edge, color=color, linewidth=1.5, label=label)
    if above:
        axes.scatter(
            [p.x for p in above],
            [0.015 if axes.yaxis_inverted() else 0.985] * len(above),
            transform=edge,
            marker="v" if axes.yaxis_inverted() else "^",
            s=16,
            color=palette.discard,
            alpha=0.7,
            linewidths=0,
            label=f"{len(above)} off the scale",
            clip_on=False,
        )


def _legend(axes: "Axes", palette: Palette, most: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    num_rows = -(-len(handles) // most)
    if handles:
        axes.legend(
            handles,
            labels,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.13),
            ncols=-(-len(handles) // max(num_rows, 1)),
            fontsize=8,
            frameon=False,
            labelcolor=palette.faint,
            handletextpad=0.4,
            columnspacing=1.4,
        )


def to_bytes(session: Session, kind: str, *, x: XAxis = "experiment") -> bytes:
    """Return the staircase of a session as the bytes of a `png` or `svg` file, on white."""
    figure, titles = staircase(session, summarize(session), x=x, title=True)
    if kind == "svg":
        return svg(figure, salt="progress", inline=False, titles=titles).encode()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, facecolor=LIGHT.paper, metadata={"Software": None})
    return out.getvalue()


def loss_curves(
    curves: Mapping[str, Sequence[CurvePoint]], palette: Palette = LIGHT
) -> "Figure | None":
    """Draw training loss over the seconds of the budget, one line a label; None without a curve."""
    drawn = {label: loss_points(points) for label, points in curves.items()}
    drawn = {label: points for label, points in drawn.items() if len(points) > 1}
    if not drawn:
        return None
    figure, axes = new_figure(3.6, palette)
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
    axes.set_ylabel("training loss, as reported", color=palette.faint, gid="label-y")
    legend = axes.legend(fontsize=8.5, frameon=False, labelcolor=palette.ink)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


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
