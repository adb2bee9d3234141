"""`autoresearch doctor`: what this machine has, what is missing, and what to do."""

from typing import Annotated

import typer

from autoresearch.commands import option, state


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
    for finding in examine(is_quick=is_quick):
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
