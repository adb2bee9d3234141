"""Runs a verb on a terminal, with what the user types."""

import os
import pty
import subprocess
import sys
from pathlib import Path


def on_terminal(
    arguments: list[str], typed: str, folder: Path, *, stdout: int | None = None
) -> tuple[int, bytes]:
    """Return exit code and what was shown; standard output is the terminal too, unless `stdout` is given."""
    ours, theirs = pty.openpty()
    line = f"import sys; from autoresearch.cli import main; sys.exit(main({arguments!r}))"
    out = theirs if stdout is None else stdout
    with subprocess.Popen(
        [sys.executable, "-c", line], cwd=folder, stdin=theirs, stdout=out, stderr=theirs
    ) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        shown = b""
        try:
            while chunk := os.read(ours, 4096):
                shown += chunk
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    return process.returncode, shown
