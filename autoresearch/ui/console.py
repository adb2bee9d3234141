"""Where output goes and how it looks: output mode, the two consoles, errors, the pager.

stdout carries data, stderr everything else. Consoles interpret no markup, so text of a model is printed as it is.
Colour only repeats what a word says.
"""

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any, Literal

from rich.console import Console
from rich.text import Text
from rich.theme import Theme

from autoresearch.errors import AutoresearchError
from autoresearch.ui.tables import folded
from autoresearch.ui.text import clean
from autoresearch.util.text import redact

ColorChoice = Literal["auto", "always", "never"]
Kind = Literal["tty", "plain", "json", "quiet"]

THEME = Theme(
    {
        "keep": "green",
        "held": "yellow",
        "good": "green",
        "discard": "dim",
        "crash": "red",
        "invalid": "magenta",
        "running": "cyan",
        "warning": "yellow",
        "error": "bold red",
        "hint": "cyan",
        "command": "cyan",
        "metric": "bold",
        "verdict": "bold",
        "verdict good": "bold green",
        "verdict warning": "bold yellow",
        "label": "dim",
        "muted": "dim",
        "heading": "bold",
        "added": "green",
        "removed": "red",
        "place": "cyan",
    },
    inherit=True,
)
"""Styles by meaning; no colour is named anywhere else in the package."""


@dataclass(frozen=True)
class OutputMode:
    """How this process prints; made by `derive`."""

    kind: Kind = "plain"
    """`tty`: for a terminal; `plain`: for a pipe; `json`; `quiet`: one line or nothing."""
    is_live: bool = False
    """Whether rows on stderr may be redrawn in place."""
    has_color: bool = False
    """Colour on stdout."""
    has_error_color: bool = False
    """Colour on stderr."""
    is_utf8: bool = False
    """Whether bars and curves may use more than ASCII."""

    @classmethod
    def derive(
        cls,
        *,
        is_json: bool = False,
        is_quiet: bool = False,
        color: ColorChoice = "auto",
        progress: bool = True,
        environ: Mapping[str, str] | None = None,
        stdout: IO[str] | None = None,
        stderr: IO[str] | None = None,
    ) -> "OutputMode":
        """Decide from flags, environment and streams.

        Colour: `color` > NO_COLOR > FORCE_COLOR > whether the stream is a terminal. `TERM=dumb` has neither colour
        nor redrawing. AUTORESEARCH_NO_PROGRESS is `progress=False`.
        """
        env = os.environ if environ is None else environ
        out, err = stdout or sys.stdout, stderr or sys.stderr
        for stream in (out, err):
            _forgive(stream)
        dumb = env.get("TERM", "") in {"dumb", "unknown"}
        out_tty, err_tty = _is_terminal(out), _is_terminal(err)
        kind: Kind = "plain"
        if is_json:
            kind = "json"
        elif is_quiet:
            kind = "quiet"
        elif out_tty:
            kind = "tty"

        def has_color(is_terminal: bool) -> bool:
            if color != "auto":
                return color == "always"
            if env.get("NO_COLOR"):
                return False
            if env.get("FORCE_COLOR"):
                return True
            return is_terminal and not dumb

        wants = progress and not env.get("AUTORESEARCH_NO_PROGRESS")
        return cls(
            kind=kind,
            is_live=wants and err_tty and not dumb and kind != "quiet",
            has_color=has_color(out_tty) and kind != "json",
            has_error_color=has_color(err_tty),
            is_utf8="utf" in (getattr(out, "encoding", "") or "").lower(),
        )

    @property
    def is_json(self) -> bool:
        """Whether stdout carries JSON and nothing else."""
        return self.kind == "json"

    @property
    def is_quiet(self) -> bool:
        """Whether talk is left out."""
        return self.kind == "quiet"

    @property
    def is_tty(self) -> bool:
        """Whether stdout is a terminal."""
        return self.kind == "tty"

    @cached_property
    def out(self) -> Console:
        """The console of data: whatever `sys.stdout` is at the time of printing."""
        return make_console(color=self.has_color, is_terminal=_is_terminal(sys.stdout))

    @cached_property
    def err(self) -> Console:
        """The console of talk: whatever `sys.stderr` is at the time of printing."""
        return make_console(
            color=self.has_error_color, is_terminal=_is_terminal(sys.stderr), is_stderr=True
        )

    def say(self, text: str | Text, style: str = "") -> None:
        """Print talk on stderr, unless quiet."""
        if not self.is_quiet:
            self.talk(text if isinstance(text, Text) else styled(text, style))

    def talk(self, text: Text, indent: int = 0) -> None:
        """Print lines on stderr; on a terminal those that are too long are folded between words."""
        is_folded = _is_terminal(sys.stderr)
        for line in text.split("\n", allow_blank=True):
            for part in folded(line, self.err.width, indent) if is_folded else [line]:
                self.err.print(part, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a warning on stderr, also when quiet."""
        self.talk(styled("warning: ", "warning").append(clean(text), style="default"), 9)

    def data(self, text: str | Text) -> None:
        """Print a line of data on stdout: whole, however long, but folded between words on a terminal."""
        line = text if isinstance(text, Text) else Text(text)
        for part in folded(line, self.out.width, 2) if self.is_tty else [line]:
            self.out.print(part, soft_wrap=True)

    def json(self, value: Any, *, indent: int | None = 2) -> None:
        """Print a JSON value on stdout, ASCII, absent numbers as null."""
        text = json.dumps(value, indent=indent, ensure_ascii=True, allow_nan=False)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


class _Console(Console):
    """A console that survives: rich's own ends the process, a session too, when the reader of a pipe goes away."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002
        """Leave the cursor visible, as it must be after a process that was killed while it drew."""
        return False


def make_console(
    file: IO[str] | None = None,
    *,
    is_stderr: bool = False,
    color: bool = False,
    is_terminal: bool = False,
    width: int | None = None,
) -> Console:
    """Return a console that prints text as it is: no markup, no emoji codes, no highlighting."""
    return _Console(
        file=file,
        stderr=is_stderr,
        markup=False,
        highlight=False,
        emoji=False,
        theme=THEME,
        force_terminal=is_terminal or color,
        color_system="auto" if color else None,
        no_color=not color,
        width=width,
        legacy_windows=False,
    )


def render_error(error: AutoresearchError) -> Text:
    """Return `error: ...`, an empty line, `hint: ...`."""
    text = Text()
    text.append("error: ", style="error").append(clean(redact(error.message)))
    if error.hint:
        hint = clean(redact(error.hint), lines=True)
        text.append("\n\n").append("hint: ", style="hint").append(hint)
    return text


def print_error(mode: OutputMode, error: AutoresearchError) -> None:
    """Print an error: text on stderr, or with `--json` the same as an object on stdout."""
    if mode.is_json:
        mode.json(json.loads(redact(json.dumps(error.to_json()))))
    else:
        mode.talk(render_error(error), 6)


def _forgive(stream: IO[str]) -> None:
    """Print `?` where a stream cannot encode a character, instead of failing."""
    if "utf" not in (getattr(stream, "encoding", "") or "").lower() and hasattr(
        stream, "reconfigure"
    ):
        stream.reconfigure(errors="replace")


def _is_terminal(stream: IO[str]) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def styled(text: str, style: str = "") -> Text:
    """Return text of which this piece has a style; what is appended does not inherit it."""
    return Text().append(text, style=style or None)


def show(mode: OutputMode, lines: Sequence[Text | str], *, pager: bool = True) -> None:
    """Print lines of data; on a terminal that they overflow, through `$PAGER` (`less -R`) unless `pager` is false.

    Not by `Console.pager`: pydoc, behind it, prefers $MANPAGER, which formats manual pages, and prints nothing where
    the pager is missing.
    """
    command = pager_command() if pager and mode.is_tty else []
    if not command or _height(mode, lines) < mode.out.size.height:
        for line in lines:
            mode.data(line)
        return
    with mode.out.capture() as captured:
        for line in lines:
            mode.data(line)
    env = {**os.environ, "LESS": os.environ.get("LESS", "FRX"), "LV": os.environ.get("LV", "-c")}
    try:
        subprocess.run(command, input=captured.get(), text=True, env=env, check=False)
    except (OSError, BrokenPipeError):
        mode.out.file.write(captured.get())


def pager_command() -> list[str]:
    """Return the pager as a command; empty where there is none or it is `cat`."""
    chosen = os.environ.get("AUTORESEARCH_PAGER") or os.environ.get("PAGER") or "less"
    try:
        command = shlex.split(chosen)
    except ValueError:
        return []
    if not command or command[0] == "cat" or shutil.which(command[0]) is None:
        return []
    return command


def _height(mode: OutputMode, lines: Sequence[Text | str]) -> int:
    width = max(mode.out.width, 1)
    total = 0
    for line in lines:
        text = line if isinstance(line, Text) else Text(line)
        total += sum(max(1, -(-part.cell_len // width)) for part in text.split(allow_blank=True))
    return total
