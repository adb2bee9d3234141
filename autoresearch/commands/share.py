"""`autoresearch push` and `export`: take a session, or one experiment, somewhere else."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from autoresearch.commands import TagOption, argument, experiment_argument, option, state


def push(
    ctx: typer.Context,
    remote: Annotated[str, argument("REMOTE", "Name of a git remote, or an address.")] = "origin",
    tag: TagOption = None,
) -> None:
    """Send the session to a git remote: the branch, and the journal with every experiment.

    In a clone, `git fetch --no-prune origin 'refs/autoresearch/*:refs/autoresearch/*'` and
    `git switch autoresearch/TAG` make `autoresearch log` work there.
    """
    from autoresearch.commands._common import open_record
    from autoresearch.record.refs import FETCH
    from autoresearch.record.remote import push as send

    mode = state(ctx).mode
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


def export(
    ctx: typer.Context,
    name: Annotated[str, experiment_argument()] = "best",
    folder: Annotated[
        Path | None, option("--output -o DIR", "Folder to write to, new or empty.")
    ] = None,
    tag: TagOption = None,
) -> None:
    """Write an experiment to a folder that needs no autoresearch.

    It holds the code, the tokenizer, the weights if they were kept, the numbers, a README.md that says how to use
    them, a model.py that needs torch alone, and a sample.py that prints text.
    """
    from autoresearch.commands._common import open_record
    from autoresearch.report.export import export as write

    mode = state(ctx).mode
    with open_record(tag) as record:
        done = write(record, name, folder)
    if mode.is_json:
        mode.json(
            {
                "folder": str(done.folder),
                "experiment": done.number,
                "files": list(done.files),
                "missing": list(done.missing),
            }
        )
        return
    mode.data(str(done.folder))
    mode.say(f"experiment {done.number}: {', '.join(done.files)}")
    for sentence in done.missing:
        mode.say(f"without {sentence}")
