"""`autoresearch push`: send a session's branch and journal to a remote."""

import sys
from typing import Annotated

import typer

from autoresearch.commands import JsonOption, QuietOption, TagOption, state


def push(
    ctx: typer.Context,
    remote: Annotated[
        str, typer.Argument(metavar="REMOTE", help="Name of a git remote, or an address.")
    ] = "origin",
    tag: TagOption = None,
    is_json: JsonOption = False,
    is_quiet: QuietOption = False,
) -> None:
    """Send the session to a git remote: the branch, and the journal with every experiment.

    In a clone, `git fetch origin 'refs/autoresearch/*:refs/autoresearch/*'` and `git switch autoresearch/TAG` make
    `autoresearch log` work there.
    """
    from autoresearch.commands._common import open_record
    from autoresearch.record.refs import FETCH
    from autoresearch.record.remote import push as send

    mode = state(ctx, is_json=is_json, is_quiet=is_quiet).mode
    with open_record(tag) as record:
        done = send(record, remote, is_interactive=sys.stdin.isatty())
        if mode.is_json:
            mode.json(
                {"remote": done.remote, "refs": list(done.refs), "changed": list(done.changed)}
            )
        elif done.changed:
            mode.say(f"sent session {record.tag} to `{done.remote}`: {', '.join(done.changed)}")
            mode.say(f"in a clone: `{FETCH}` and `git switch {record.branch}`")
        else:
            mode.say(f"`{done.remote}` has all of session {record.tag} already")
