"""The quick start of a `program` task: the score is the last number that a pattern finds in what the program prints.

Nothing checks it: a program can print what it likes. The session says `score: reported by the program`.
"""

import contextlib
import math
import re
import time
from collections.abc import Mapping
from dataclasses import replace

from autoresearch.paths import python_command
from autoresearch.tasks.program.side import Bench, StoppedError
from autoresearch.trial.process import Child
from autoresearch.trial.snapshot import Folder, write_files
from autoresearch.trial.telemetry import Output
from autoresearch.types import Outcome, TrialResult, TrialSpec

SEED_VARIABLE, SPLIT_VARIABLE = "AUTORESEARCH_SEED", "AUTORESEARCH_SPLIT"
_MAX_LOG_BYTES = 1 << 20
_LOOK_SECONDS = 0.05


def score(
    bench: Bench, files: Mapping[str, bytes], spec: TrialSpec, result: TrialResult
) -> TrialResult:
    """Run the command once, for at most the budget, and return the result with the number it printed.

    The seed and the split are in `AUTORESEARCH_SEED` and `AUTORESEARCH_SPLIT`; a program may use or ignore them.

    Raises:
        StoppedError: the session was stopped.
    """
    task, budget = bench.config.task, bench.config.trial.budget_seconds
    program, *arguments = task.command
    argv = python_command(*arguments) if program in ("python", "python3") else list(task.command)
    output = Output(_MAX_LOG_BYTES)
    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(Folder(bench.scratch, spec.label, {}))
        folder.work.mkdir()
        write_files(folder.work, files)
        child = Child(
            "program",
            config=bench.config,
            sandbox=bench.sandbox,
            folder=folder,
            argv=argv,
            is_heard=True,
            environment={SEED_VARIABLE: str(spec.seed), SPLIT_VARIABLE: spec.split},
        )
        opened.callback(child.close)
        began = time.monotonic()
        while not child.wait(_LOOK_SECONDS) and time.monotonic() - began < budget:
            if bench.stop.is_set():
                raise StoppedError
            bench.tell()
            output.add(child.read_output() or b"")
        is_late, spent = not child.has_ended(), time.monotonic() - began
        child.kill()
        output.add(child.read_output() or b"")
        code, memory = child.exit_code, child.max_rss_mb
    result = replace(
        result, log_tail=output.tail, train_seconds=spent, peak_memory_mb=memory, num_audited=1
    )
    if is_late:
        detail = f"it was not done in {budget:g} s"
        return replace(result, outcome=Outcome.CRASH, reason="timeout", detail=detail)
    if code != 0:
        detail = f"exit status {code}"
        return replace(result, outcome=Outcome.CRASH, reason="exception", detail=detail)
    found = re.findall(task.pattern, output.text)
    number = _number(found[-1]) if found else None
    if number is None:
        detail = f"it printed no number that `{task.pattern}` finds"
        return replace(result, outcome=Outcome.CRASH, reason="no_score", detail=detail)
    return replace(result, outcome=Outcome.OK, score=number)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
