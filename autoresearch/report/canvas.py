"""What all drawings of a report share: colours by meaning, bare axes, text the font has, SVG in the page's colours.

SVG for the page carries sentinel colours that become CSS variables, so that one drawing serves light and dark; its text
is text. Nothing a model wrote is read as mathematics or as a glyph the font does not have.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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


def new_figure(width: float, height: float, palette: Palette) -> "tuple[Figure, Axes]":
    """Return a figure of so many inches with bare axes."""
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
