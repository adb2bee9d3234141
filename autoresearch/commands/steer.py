"""`autoresearch stop`, `pause` and `resume`: ask something of the session that runs in another terminal."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from autoresearch.commands import JsonOption, QuietOption, State, state

if TYPE_CHECKING:
    from autoresearch.paths import RunDirectory
    from autoresearch.util.locks import Holder

_LOOK_SECONDS = 0.2


def stop(
    ctx: typer.Context,
    is_now: Annotated[
        bool,
        typer.Option("--now", help="End the trial under way too; the next `run` repeats it."),
    ] = False,
    is_waiting: Annotated[
        bool, typer.Option("--wait", help="Return when the session has ended.")
    ] = False,
    is_json: JsonOption = False,
    is_quiet: QuietOption = False,
) -> None:
    """End the running session after the current trial; `autoresearch run` goes on with it later."""
    from autoresearch.rundir.control import Request, request

    shared = state(ctx, is_json=is_json, is_quiet=is_quiet)
    run_directory, holder = _running("stop")
    request(run_directory, Request.STOP_NOW if is_now else Request.STOP)
    if is_waiting:
        while _holder(run_directory) == holder:
            time.sleep(_LOOK_SECONDS)
    when = "" if is_waiting else " now" if is_now else " after the current trial"
    _say(shared, "stop", holder, f"session {holder.tag} {'ended' if is_waiting else 'ends'}{when}")


def pause(ctx: typer.Context, is_json: JsonOption = False, is_quiet: QuietOption = False) -> None:
    """Let the running session start no further trial until `autoresearch resume`."""
    from autoresearch.rundir.control import Request, request

    shared = state(ctx, is_json=is_json, is_quiet=is_quiet)
    run_directory, holder = _running("pause")
    request(run_directory, Request.PAUSE)
    _say(
        shared,
        "pause",
        holder,
        f"session {holder.tag} pauses after the current trial; go on with `autoresearch resume`",
    )


def resume(ctx: typer.Context, is_json: JsonOption = False, is_quiet: QuietOption = False) -> None:
    """Let a paused session go on."""
    from autoresearch.rundir.control import Request, withdraw

    shared = state(ctx, is_json=is_json, is_quiet=is_quiet)
    run_directory, holder = _running("resume")
    was = withdraw(run_directory, Request.PAUSE)
    _say(
        shared,
        "resume",
        holder,
        f"session {holder.tag} goes on" if was else f"session {holder.tag} was not paused",
    )


def _running(verb: str) -> "tuple[RunDirectory, Holder]":
    from autoresearch.errors import WorkError
    from autoresearch.paths import find_run_directory

    run_directory = find_run_directory()
    holder = _holder(run_directory)
    if holder is None:
        raise WorkError(
            f"there is nothing to {verb}: no session runs in `{run_directory.root}`",
            hint="start or resume one with `autoresearch run`",
            kind="record",
        )
    return run_directory, holder


def _holder(run_directory: "RunDirectory") -> "Holder | None":
    from autoresearch.record.git import Repository
    from autoresearch.util.locks import holder_of, session_lock_path

    with Repository.open(run_directory.root) as repository:
        return holder_of(session_lock_path(repository.git_dir))


def _say(shared: State, verb: str, holder: "Holder", text: str) -> None:
    mode = shared.mode
    if mode.is_json:
        mode.json({"request": verb, "session": holder.tag, "pid": holder.pid})
    else:
        mode.say(text)
