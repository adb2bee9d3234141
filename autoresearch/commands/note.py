"""`autoresearch note TEXT`: a line the agent sees with its next question."""

from typing import Annotated

import typer

from autoresearch.commands import JsonOption, QuietOption, TagOption, state

MAX_LENGTH = 2000


def note(
    ctx: typer.Context,
    text: Annotated[
        str,
        typer.Argument(help="What to tell the agent; - reads standard input.", show_default=False),
    ],
    tag: TagOption = None,
    is_json: JsonOption = False,
    is_quiet: QuietOption = False,
) -> None:
    """Add a line to the session that the agent is told with every later question.

    Works while `run` is under way. For lasting instructions edit program.md: it is read anew for each proposal.
    """
    import sys

    from autoresearch.commands._common import open_record
    from autoresearch.errors import UsageError
    from autoresearch.events import Noted

    mode = state(ctx, is_json=is_json, is_quiet=is_quiet).mode
    if text == "-":
        text = sys.stdin.read()
    line = " ".join(text.split())
    if not line:
        raise UsageError(
            "the note is empty", hint='for example `autoresearch note "try a longer cooldown"`'
        )
    if len(line) > MAX_LENGTH:
        raise UsageError(
            f"the note has {len(line)} characters, at most {MAX_LENGTH} are kept",
            hint="write longer instructions in program.md",
        )
    record = open_record(tag)
    record.check_fetched()
    event = Noted(text=line)
    sha = record.append(event)
    if mode.is_json:
        mode.json({"session": record.tag, "note": line, "at": event.at, "event": sha})
    else:
        mode.say(f"noted in session `{record.tag}`: the agent sees it with its next question")
