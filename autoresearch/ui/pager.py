"""Show lines on a terminal, through a pager only when they do not fit."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence

from rich.text import Text

from autoresearch.ui.console import OutputMode


def show(mode: OutputMode, lines: Sequence[Text | str], *, pager: bool = True) -> None:
    """Print lines of data; on a terminal that they overflow, through `$PAGER` (`less -R`).

    Args:
        mode: How this process talks.
        lines: What to print.
        pager: False, `--no-pager` or `PAGER=cat` never use one.
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
