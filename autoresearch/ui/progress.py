"""Progress of work in phases on stderr: a bar on a terminal, then one line in the past tense for each phase.

    with PhaseProgress(mode) as show:
        show.update("download", done=3_000_000, total=10_000_000, unit="B", detail="shard 3 of 10")
        show.update("tokenise", done=1, total=4)
        show.finish("tokenise", "120 M tokens")

A new phase ends the one before. Piped, a phase says when it begins and when it is over; quiet and JSON say nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.cells import cell_len
from rich.text import Text

from autoresearch.ui import text as f
from autoresearch.ui.console import OutputMode, styled
from autoresearch.ui.screen import Rows

_SHOWN_SECONDS = 0.5


@dataclass
class _Phase:
    name: str
    began: float
    done: float = 0.0
    total: float | None = None
    unit: str = ""
    detail: str = ""


class PhaseProgress:
    """See the module."""

    def __init__(self, mode: OutputMode, clock: Callable[[], float] = time.monotonic) -> None:
        self._mode = mode
        self._clock = clock
        self._is_shown = not (mode.is_quiet or mode.is_json)
        self._phase: _Phase | None = None
        self._rows = Rows(mode.err, self._draw) if self._is_shown and mode.is_live else None

    def __enter__(self) -> Self:
        """Begin; on a terminal take over its last row."""
        if self._rows is not None:
            self._rows.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End; the last phase is reported unless an error ended it."""
        if error is None:
            self.finish()
        if self._rows is not None:
            self._rows.stop()

    def update(
        self,
        phase: str,
        done: float = 0.0,
        total: float | None = None,
        *,
        unit: str = "",
        detail: str = "",
    ) -> None:
        """Say how far a phase is.

        Args:
            phase: A verb, `download`; a name not seen before ends the phase before.
            done: In `unit`s.
            total: In `unit`s; None where it is not known.
            unit: `B` prints sizes; anything else is printed after the count.
            detail: What is being worked on.
        """
        if self._phase is None or self._phase.name != phase:
            self.finish()
            self._phase = _Phase(phase, self._clock())
            if self._is_shown and self._rows is None:
                self._mode.say(f"{f.clean(phase)} ...", style="muted")
        now = self._phase
        now.done, now.total, now.unit, now.detail = done, total, unit, f.clean(detail)

    def finish(self, phase: str = "", note: str = "") -> None:
        """End the phase and print its line, `download    10.0 MB  2.1s  note`; on a terminal not of a moment."""
        now = self._phase
        if now is None or (phase and phase != now.name):
            return
        self._phase = None
        seconds = self._clock() - now.began
        if self._is_shown and (self._rows is None or note or seconds >= _SHOWN_SECONDS):
            line = styled(f"{f.clean(now.name):<12}", "good")
            amount = _amount(now.done, now.unit) if now.done else ""
            parts = [amount, f.duration(seconds), f.clean(note)]
            self._mode.say(line.append("  ".join(p for p in parts if p), style="default"))

    def _draw(self, width: int) -> list[Text]:
        now = self._phase
        if now is None:
            return []
        return [
            progress_row(
                now.name,
                now.done,
                now.total,
                unit=now.unit,
                detail=now.detail,
                seconds=self._clock() - now.began,
                width=width,
                utf8=self._mode.is_utf8,
            )
        ]


def progress_row(
    name: str,
    done: float,
    total: float | None,
    *,
    unit: str,
    detail: str,
    seconds: float,
    width: int,
    utf8: bool,
) -> Text:
    """Return one row: name, bar, share, amounts, time and time left, detail; cut from the right."""
    line = styled(f"{f.clean(name):<12}", "running")
    left = ""
    if total:
        share = min(done / total, 1.0)
        line.append(f.bar(share, 14 if width < 90 else 26, utf8=utf8), style="default")
        line.append(f" {share:>4.0%}", style="default")
        if seconds > 2 and 0.02 < share < 1:
            left = f"about {f.duration(seconds / share - seconds)} left"
    amount = _amount(done, unit)
    if total:
        amount += f" of {_amount(total, unit)}"
    for part in (amount if done or total else "", f.duration(seconds), left, detail):
        room = width - cell_len(line.plain) - 3
        if part and room >= 6:
            line.append("  " + f.fit(part, room), style="default")
    return line


def _amount(value: float, unit: str) -> str:
    if unit == "B":
        return f.size(value)
    return f"{f.count(value)} {unit}".strip()
