"""`autoresearch doctor`: what this machine has, what is missing, and what helps."""

from typing import Annotated

import typer

from autoresearch.commands import JsonOption, QuietOption, state


def doctor(
    ctx: typer.Context,
    is_quick: Annotated[
        bool,
        typer.Option("--quick", help="Leave out measuring attention and asking the provider."),
    ] = False,
    is_json: JsonOption = False,
    is_quiet: QuietOption = False,
) -> None:
    """Check everything a session needs: one line each, with what helps.

    Exit code 3 when something is missing that a session cannot do without. Run it inside a run directory to check
    its settings, data and proposer too.
    """
    from autoresearch.bootstrap.doctor import examine, exit_code
    from autoresearch.ui.pages import listings as screen

    mode = state(ctx, is_json=is_json, is_quiet=is_quiet).mode
    found = []
    for finding in examine(is_quick=is_quick):
        found.append(finding)
        if not mode.is_json and (not mode.is_quiet or finding.status == "fail"):
            mode.data(screen.render(finding))
    code = exit_code(found)
    if mode.is_json:
        mode.json({"schema": 1, "exit_code": code, "findings": [f.to_json() for f in found]})
    else:
        mode.say(screen.summary(found))
    if code:
        raise typer.Exit(code)
