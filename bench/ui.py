"""Measures how long each verb that only looks takes on a run directory: CPU seconds, best of three.

    python bench/ui.py RUN_DIRECTORY

CPU seconds of the process and its children are what an idle machine makes one wait; the aims are those of the table.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

AIM = 0.35
VERBS = {
    "--version": AIM,
    "--help": AIM,
    "log": AIM,
    "log --table": AIM,
    "log -q": AIM,
    "status": AIM,
    "show best": AIM,
    "diff": AIM,
    "prepare": AIM,
    "doctor --quick": 1.0,
}
"""Words after `autoresearch` -> CPU seconds it may take."""


def measure(words: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Return the least CPU and wall seconds of three runs."""
    cpu, wall = [], []
    for _ in range(3):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "autoresearch", *words],
            cwd=folder, env=environment, capture_output=True, check=False,
        )  # fmt: skip
        wall.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(cpu), min(wall)


def main() -> None:
    """Print the table."""
    from autoresearch.cli import VERBS as KNOWN

    folder = Path(sys.argv[1]).resolve()
    known = {verb for verbs in KNOWN.values() for verb in verbs}
    completion = {
        "_AUTORESEARCH_COMPLETE": "complete_bash",
        "COMP_WORDS": "autoresearch show ",
        "COMP_CWORD": "2",
    }
    rows = [
        (words, aim, {})
        for words, aim in VERBS.items()
        if words[0] == "-" or words.split()[0] in known
    ]
    rows.append(("show <TAB>", AIM, completion))
    print(f"{'verb':<16} {'cpu s':>6} {'wall s':>6} {'aim':>5}")
    for words, aim, more in rows:
        arguments = [] if more else words.split()
        cpu, wall = measure(arguments, folder, {**os.environ, **more})
        print(f"{words:<16} {cpu:>6.2f} {wall:>6.2f} {aim:>5.2f}{'' if cpu <= aim else '  above'}")


if __name__ == "__main__":
    main()
