"""`autoresearch diff A B`: what changed between two experiments."""

from typing import Annotated

import typer

from autoresearch.commands import JsonOption, QuietOption, TagOption, state
from autoresearch.commands._common import NoPagerOption, complete_experiment

Name = Annotated[
    str,
    typer.Argument(
        help="A number, baseline, best, last or the beginning of a commit.",
        autocompletion=complete_experiment,
        show_default=False,
    ),
]


def diff(
    ctx: typer.Context,
    a: Name = "",
    b: Name = "",
    is_stat: Annotated[
        bool, typer.Option("--stat", help="Only the number of lines a file.")
    ] = False,
    is_words: Annotated[bool, typer.Option("--words", help="Mark words instead of lines.")] = False,
    is_pager_off: NoPagerOption = False,
    tag: TagOption = None,
    is_json: JsonOption = False,
    is_quiet: QuietOption = False,
) -> None:
    """Show what changed from experiment A to B; without arguments from the baseline to the best.

    With one argument, from that experiment to the best. In a pipe the output is a plain unified diff:
    `autoresearch diff | git apply` works.
    """
    from autoresearch.commands._common import open_record
    from autoresearch.errors import UsageError
    from autoresearch.ui import console
    from autoresearch.ui.pages import diffs

    mode = state(ctx, is_json=is_json, is_quiet=is_quiet).mode
    if is_stat and is_words:
        raise UsageError("`--stat` and `--words` exclude each other", hint="give one of them")
    record = open_record(tag)
    ctx.call_on_close(record.close)
    session = record.session()
    one, two = record.resolve(a or "baseline"), record.resolve(b or "best")
    first, second = record.commit_of(a or "baseline"), record.commit_of(b or "best")
    text = record.diff(first, second)
    if mode.is_json:
        mode.json(diffs.to_json(session, one, two, text))
        return
    if is_stat:
        lines = diffs.stat_lines(text)
    elif is_words:
        lines = diffs.words(text)
    elif mode.is_tty:
        lines = diffs.colored(text)
    else:
        mode.out.file.write(text)
        return
    if mode.is_tty:
        lines = [diffs.header(session, one, two), *lines]
    console.show(mode, lines, pager=not is_pager_off)
