"""`autoresearch stop`, `pause`, `resume` and `note`: requests to the session that runs in another terminal."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from autoresearch.commands import State, TagOption, argument, option, state

if TYPE_CHECKING:
    from autoresearch.paths import RunDirectory
    from autoresearch.util.locks import Holder

_LOOK_SECONDS = 0.2


def stop(
    ctx: typer.Context,
    is_now: Annotated[
        bool, option("--now", "End the trial under way too; the next `run` repeats it.")
    ] = False,
    is_waiting: Annotated[bool, option("--wait", "Return when the session has ended.")] = False,
) -> None:
    """End the session after the current trial; resume with `autoresearch run`."""
    from autoresearch.rundir.control import Request, request

    shared = state(ctx)
    run_directory, holder = _running("stop")
    request(run_directory, Request.STOP_NOW if is_now else Request.STOP)
    if is_waiting:
        while _holder(run_directory) == holder:
            time.sleep(_LOOK_SECONDS)
    when = "" if is_waiting else " now" if is_now else " after the current trial"
    _say(shared, "stop", holder, f"session {holder.tag} {'ended' if is_waiting else 'ends'}{when}")


def pause(ctx: typer.Context) -> None:
    """Pause the session after the current trial, until `autoresearch resume`."""
    from autoresearch.rundir.control import Request, request

    shared = state(ctx)
    run_directory, holder = _running("pause")
    request(run_directory, Request.PAUSE)
    _say(
        shared,
        "pause",
        holder,
        f"session {holder.tag} pauses after the current trial; resume with `autoresearch resume`",
    )


def resume(ctx: typer.Context) -> None:
    """Resume a paused session."""
    from autoresearch.rundir.control import Request, withdraw

    shared = state(ctx)
    run_directory, holder = _running("resume")
    was = withdraw(run_directory, Request.PAUSE)
    _say(
        shared,
        "resume",
        holder,
        f"session {holder.tag} resumes" if was else f"session {holder.tag} was not paused",
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


MAX_LENGTH = 2000


def note(
    ctx: typer.Context,
    text: Annotated[str, argument("TEXT", "The note; - reads standard input.")] = "",
    is_list: Annotated[bool, option("--list", "List your notes, with their numbers.")] = False,
    remove: Annotated[
        int | None, option("--remove N", "Take back note N of the list: no later request holds it.")
    ] = None,
    tag: TagOption = None,
) -> None:
    """Add a note that the agent or LLM reads with every later request for ideas.

    Works while `run` is under way. For lasting instructions edit program.md, which is read again for each proposal.
    """
    import sys

    from autoresearch.commands._common import exclude, open_record
    from autoresearch.config import load_config
    from autoresearch.errors import UsageError
    from autoresearch.events import Noted, NoteRemoved
    from autoresearch.proposer.registry import kinds_of

    mode = state(ctx).mode
    flags = {"TEXT": bool(text), "--list": is_list, "--remove": remove is not None}
    exclude(flags, "--list", "TEXT", "--remove")
    exclude(flags, "--remove", "TEXT")
    record = open_record(tag)
    ctx.call_on_close(record.close)
    if is_list or remove is not None:
        mine = [n for n in record.session().notes if n.author == "human"]
        if remove is None:
            if mode.is_json:
                mode.json(
                    [{"number": i, "note": n.text, "at": n.at} for i, n in enumerate(mine, 1)]
                )
                return
            for number, one in enumerate(mine, 1):
                mode.data(f"{number}  {one.text}")
            mode.say(f"{len(mine)} in session `{record.tag}`; `--remove N` takes one back")
            return
        if not 1 <= remove <= len(mine):
            raise UsageError(
                f"session `{record.tag}` has no note {remove}",
                hint="see `autoresearch note --list`",
            )
        gone = mine[remove - 1]
        record.check_fetched()
        record.append(NoteRemoved(number=remove))
        if mode.is_json:
            mode.json({"session": record.tag, "removed": gone.text})
        else:
            mode.say(f"took back note {remove}: {gone.text}")
        return
    line = " ".join((sys.stdin.read() if text == "-" else text).split())
    if not line:
        raise UsageError(
            "the note is empty", hint='for example `autoresearch note "try a longer cooldown"`'
        )
    if len(line) > MAX_LENGTH:
        raise UsageError(
            f"the note has {len(line)} characters, at most {MAX_LENGTH} are kept",
            hint="write longer instructions in program.md",
        )
    record.check_fetched()
    event = Noted(text=line)
    sha = record.append(event)
    if mode.is_json:
        mode.json({"session": record.tag, "note": line, "at": event.at, "event": sha})
    else:
        configured = kinds_of(load_config(record.run_directory).config.proposer)
        is_read = (record.session().proposer or " and ".join(configured)) != "search"
        reader = "the proposer reads it with its next request"
        unread = "but `search`, which proposes, reads no notes; an agent does: `--proposer claude`"
        reads = f": {reader}" if is_read else f", {unread}"
        mode.say(f"noted in session `{record.tag}`{reads}")
