"""Tables as plain lines: columns that leave in a set order when the terminal is narrow, TSV for pipes."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from autoresearch.ui.text import clean, fit

GAP = 2
"""Cells between two columns."""
SQUEEZED = 10
"""Cells below which the flexible column says too little."""


_QUOTED = re.compile(r"`[^`]*`")


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    header: str
    align: str = "left"
    """`left` or `right`."""
    drop: int = 0
    """0 always stays; else the column with the largest number leaves first, for the flexible one to have its width."""
    is_wanted: bool = False
    """Leaves after the others, and only where little of the flexible column is left."""
    min_width: int = 0
    is_flexible: bool = False
    """Takes what is left of the width; longer text is cut. One a table, the last."""


@dataclass(frozen=True)
class Cell:
    """Text of a cell with a style by meaning."""

    text: str
    style: str = ""


def layout(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int, *, flexible_min: int = 24
) -> tuple[list[int], list[int]]:
    """Choose columns and their widths.

    Returns:
        Indices of the columns that stay, and the width of each of these in cells.
    """
    widths = [
        max([cell_len(c.header), c.min_width, *(cell_len(row[i].text) for row in rows)])
        for i, c in enumerate(columns)
    ]
    flexible = {i for i, c in enumerate(columns) if c.is_flexible}
    shown = list(range(len(columns)))

    def needed(least: int) -> int:
        fixed = sum(min(widths[i], least) if i in flexible else widths[i] for i in shown)
        return fixed + GAP * (len(shown) - 1)

    for i in sorted(shown, key=lambda i: (columns[i].is_wanted, -columns[i].drop)):
        least = SQUEEZED if columns[i].is_wanted else flexible_min
        if columns[i].drop and needed(least) > width:
            shown.remove(i)
    rest = width - sum(widths[i] for i in shown if i not in flexible) - GAP * (len(shown) - 1)
    return shown, [
        max(min(widths[i], rest), len(columns[i].header)) if i in flexible else widths[i]
        for i in shown
    ]


def render(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    width: int,
    *,
    flexible_min: int = 24,
    header: bool = True,
) -> list[Text]:
    """Return the table as lines of at most `width` cells, without trailing blanks."""
    shown, widths = layout(columns, rows, width, flexible_min=flexible_min)
    head = [Cell(columns[i].header, "label") for i in range(len(columns))]
    lines = []
    for row in ([head] if header else []) + [list(r) for r in rows]:
        line = Text(no_wrap=True, overflow="ignore", end="")
        for place, (i, cells) in enumerate(zip(shown, widths, strict=True)):
            cell = row[i]
            text = fit(cell.text, cells)
            pad = " " * (cells - cell_len(text))
            is_last = place == len(shown) - 1
            if columns[i].align == "right":
                line.append(pad)
            line.append(text, style=cell.style or None)
            if columns[i].align != "right" and not is_last:
                line.append(pad)
            if not is_last:
                line.append(" " * GAP)
        line.rstrip()
        lines.append(line)
    return lines


def folded(line: Text, width: int, indent: int) -> list[Text]:
    """Break a line that is too long, at wide gaps where there are any, with a hanging indent.

    What stands in backquotes stays whole, to be copied: a longer command than `width` is left to the terminal. The
    indent takes at most half of it.
    """
    indent = min(indent, width // 2)
    lines: list[Text] = []
    rest = line
    while cell_len(rest.plain) > width:
        breakable = _QUOTED.sub(lambda match: match[0].replace(" ", "_"), rest.plain)
        # Cut by length: where a wide character is cut, the blank in its place is no gap.
        window = breakable[: len(set_cell_size(breakable, width + 1))]
        start = indent if lines or rest.plain[:indent].strip() == "" else 0
        gap = window.rfind("   ")
        if gap <= max(start, indent, width // 3):
            gap = window.rfind(" ")
        if gap <= max(start, indent):
            # After the indent, or what is left would not become shorter.
            gap = breakable.find(" ", max(len(window), start + 1, indent + 1))
        if gap < 0:
            break
        first, after = rest[:gap], rest[gap:]
        first.rstrip()
        lines.append(first)
        blank = len(after.plain) - len(after.plain.lstrip())
        rest = Text(" " * indent).append_text(after[blank:])
    return [*lines, rest]


def tsv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return tab-separated lines; None is empty, tabs and line breaks in text become blanks."""

    def field(value: object) -> str:
        if value is None:
            return ""
        return clean(value) if isinstance(value, str) else str(value)

    lines = ["\t".join(header), *("\t".join(field(v) for v in row) for row in rows)]
    return "\n".join(lines) + "\n"
