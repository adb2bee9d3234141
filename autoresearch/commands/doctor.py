"""`autoresearch doctor`: what this machine has, what is missing, and what to do."""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from autoresearch.commands import option, state

if TYPE_CHECKING:
    from autoresearch.types import Finding


def doctor(
    ctx: typer.Context,
    is_quick: Annotated[
        bool,
        option("--quick", "Leave out starting torch, measuring attention and asking the provider."),
    ] = False,
) -> int:
    """Check everything a session needs: one line each, with what to do.

    Exit code 3 when something is missing that a session cannot do without. Run it inside a run directory to check
    its settings, data and proposer too.
    """
    from autoresearch.bootstrap.doctor import examine
    from autoresearch.errors import PrerequisiteError
    from autoresearch.ui.pages import listings as screen

    mode = state(ctx).mode
    found = []
    for finding in itertools.chain(examine(is_quick=is_quick), () if is_quick else _task()):
        found.append(finding)
        if not mode.is_json and (not mode.is_quiet or finding.status == "fail"):
            for line in screen.render(finding, mode.out.width if mode.is_tty else 0):
                mode.data(line)
    is_ready = all(finding.status != "fail" for finding in found)
    code = 0 if is_ready else PrerequisiteError.exit_code
    if mode.is_json:
        mode.json({"schema": 1, "exit_code": code, "findings": [f.to_json() for f in found]})
    else:
        mode.say(screen.summary(found))
    return code


def _task() -> "Iterator[Finding]":
    """Yield what is found of the task of this run directory, where it is a program."""
    import contextlib

    from autoresearch.errors import AutoresearchError
    from autoresearch.sandbox import choose
    from autoresearch.session.build import open_run_directory, working_files
    from autoresearch.tasks.program.checks import examine_task
    from autoresearch.types import Finding

    run_directory = None
    with contextlib.suppress(AutoresearchError):  # each has a finding already
        run_directory, loaded = open_run_directory()
    if run_directory is None or loaded.config.task.kind != "program":
        return
    config = loaded.config
    try:
        files = working_files(run_directory.root, config.task.editable)
        yield from examine_task(run_directory, config, choose(config.sandbox.backend), files)
    except AutoresearchError as exc:
        yield Finding("task", "fail", exc.message, exc.hint or "")
