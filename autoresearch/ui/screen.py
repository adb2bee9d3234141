"""A block of rows at the bottom of the terminal that is redrawn in place while lines scroll above it.

No full-screen mode, so the scrollback stays whole. Each frame is one write inside a synchronised update, and only when
something changed: no flicker. When the terminal has become narrower, its own wrapping of the last frame is counted,
so no remains are left. The cursor stays visible: a process that is killed leaves a sane terminal. What other code
prints to stdout or stderr meanwhile appears above the block.
"""

import atexit
import io
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import IO, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"
_UP_AND_CLEAR = "\x1b[1A\x1b[2K"
"""A line at a time: clearing down from the top of the screen would make tmux keep each frame in its history."""


class Screen:
    """Rows at the bottom and lines above them, on one terminal. Safe to use from any thread."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._file: IO[str] = console.file
        self._lock = threading.RLock()
        self._widths: list[int] = []
        """Cells of each row of the last frame; empty when nothing is drawn."""
        self._frame: tuple[str, int] | None = None
        self._replaced: list[tuple[str, TextIO]] = []

    @property
    def width(self) -> int:
        """Cells of the terminal now; at least 20."""
        try:
            columns = os.get_terminal_size(self._file.fileno()).columns
        except (OSError, ValueError, AttributeError, io.UnsupportedOperation):
            columns = self._console.width
        return max(columns or 80, 20)

    def open(self) -> None:
        """Take over stdout and stderr; given back when the process ends, whatever happens."""
        with self._lock:
            atexit.register(self.close)
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                if stream is self._file or _is_tty(stream):
                    self._replaced.append((name, stream))
                    setattr(sys, name, _Above(self, stream))

    def close(self, *, keep: bool = False) -> None:
        """Give the terminal back; `keep` leaves the last rows where they are."""
        with self._lock:
            if not keep:
                self._write(self._erase())
            self._widths, self._frame = [], None
            for name, stream in self._replaced:
                setattr(sys, name, stream)
            self._replaced = []
            atexit.unregister(self.close)

    def draw(self, rows: Sequence[Text]) -> None:
        """Show `rows`, each cut to one line, in place of the last ones."""
        with self._lock:
            width = self.width
            lines = [self._ansi(row, width) for row in rows]
            frame = ("\n".join(lines), width)
            if frame == self._frame:
                return
            text = self._erase() + "".join(line + "\n" for line in lines)
            self._widths = [min(cell_len(row.plain), width - 1) for row in rows]
            self._frame = frame
            self._write(_BEGIN + text + _END)

    def above(self, lines: Sequence[Text | str]) -> None:
        """Print whole lines above the rows."""
        with self._lock:
            erase, rows = self._erase(), self._frame[0] if self._frame else ""
            text = "".join(self._ansi(line, None) + "\n" for line in lines)
            if rows:
                text += rows + "\n"
            self._write(_BEGIN + erase + text + _END)

    def _erase(self) -> str:
        width = self.width
        num = sum(max(1, -(-cells // width)) for cells in self._widths)
        return "\r\x1b[2K" + _UP_AND_CLEAR * num if num else ""

    def _ansi(self, line: Text | str, width: int | None) -> str:
        if isinstance(line, str):
            return line
        line = line.copy()
        line.end = ""
        if width is not None:
            line.truncate(width - 1, overflow="crop")
        with self._console.capture() as captured:
            self._console.print(line, soft_wrap=True, end="")
        return captured.get()

    def _write(self, text: str) -> None:
        if text:
            self._file.write(text)
            self._file.flush()


class _Above(io.TextIOBase):
    """Stands in for stdout or stderr while a screen is open."""

    def __init__(self, screen: Screen, stream: TextIO) -> None:
        self._screen = screen
        self._stream = stream
        self._rest = ""
        self._guard = threading.RLock()

    def write(self, text: str) -> int:
        with self._guard:
            *lines, self._rest = (self._rest + text).split("\n")
        if lines:
            self._screen.above([line.rpartition("\r")[2] or line.strip("\r") for line in lines])
        return len(text)

    def flush(self) -> None:
        """Lines are written when they are whole."""

    def isatty(self) -> bool:
        return _is_tty(self._stream)

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def writable(self) -> bool:
        return True


class Ticker:
    """Calls a function a few times a second on a thread of its own until stopped."""

    def __init__(self, call: Callable[[], None], seconds: float = 0.25) -> None:
        self._call = call
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the last call."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._call()


def _is_tty(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        return False
