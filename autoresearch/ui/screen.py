"""Rows at the bottom of the terminal that are redrawn in place while lines scroll above them: `rich.live`."""

import sys
from collections.abc import Callable, Sequence

from rich.console import Console, ConsoleRenderable, Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

_STORE_TITLE, _RESTORE_TITLE = "\x1b[22;0t", "\x1b[23;0t"


class Rows(Live):
    """A live display of rows, each cut to one line of the terminal.

    Args:
        console: Where to draw; what is printed to it, to stdout or to stderr meanwhile appears above the rows.
        draw: Returns the rows for a width in cells. Called from the thread that refreshes, under the lock of
            `Live`: a caller that holds a lock which `draw` takes must release it before it prints.
        title: Returns the title of the terminal, which has its own again at the end. Called as `draw` is.
    """

    def __init__(
        self,
        console: Console,
        draw: Callable[[int], Sequence[Text]],
        title: Callable[[], str] = str,
    ) -> None:
        self._draw = draw
        self._title = title
        self._titled = ""
        self._cells: list[int] = []
        """Width of each row that the next frame shows, or has shown."""
        self._drawn: list[int] = []
        super().__init__(
            console=console,
            transient=True,
            refresh_per_second=4,
            vertical_overflow="crop",
            redirect_stdout=sys.stdout.isatty(),  # A pipe gets its data as if there were no rows.
        )

    def stop(self) -> None:
        """Erase the rows; the terminal has its own title again."""
        super().stop()
        if self._titled:
            self._titled = ""
            self.console.file.write(_RESTORE_TITLE)

    @property
    def width(self) -> int:
        """Cells of the terminal now; at least 20."""
        return max(self.console.width, 20)

    def get_renderable(self) -> Group:
        """Return the next frame."""
        rows = [row.copy() for row in self._draw(self.width)]
        for row in rows:
            row.truncate(self.width - 1, overflow="crop")
            row.no_wrap, row.overflow, row.end = True, "crop", "\n"
        self._cells = [row.cell_len for row in rows]
        return Group(*rows)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Return what to print, with more erased where the terminal has become narrower.

        rich erases as many lines as it drew; a narrower terminal has wrapped them into more.
        """
        found = super().process_renderables(renderables)
        title = self._title()
        if title != self._titled and self.console.is_interactive:
            if not self._titled:
                self.console.file.write(_STORE_TITLE)
            self._titled = title
            found.insert(1, Control.title(title))
        wrapped = sum(max(-(-cells // self.width), 1) - 1 for cells in self._drawn)
        self._drawn = [min(cells, self.width) for cells in self._cells]
        if not wrapped or not self.console.is_interactive:
            return found
        up = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2))
        return [found[0], Control(*up * wrapped), *found[1:]]
