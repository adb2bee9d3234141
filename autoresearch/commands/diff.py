"""`autoresearch diff A B`: what changed between two experiments."""

from typing import Annotated

import typer

from autoresearch.commands import NoPagerOption, TagOption, experiment_argument, option, state


def diff(
    ctx: typer.Context,
    a: Annotated[str, experiment_argument("A")] = "baseline",
    b: Annotated[str, experiment_argument("B")] = "best",
    is_stat: Annotated[bool, option("--stat", "Show line counts per file.")] = False,
    is_words: Annotated[bool, option("--words", "Mark words instead of lines.")] = False,
    is_pager_off: NoPagerOption = False,
    tag: TagOption = None,
) -> None:
    """Show what changed from experiment A to B; without arguments from the baseline to the best.

    With one argument, from that experiment to the best. In a pipe the output is a plain unified diff:
    `autoresearch diff | git apply` works.
    """
    from autoresearch.commands._common import exclude, open_record
    from autoresearch.ui import console
    from autoresearch.ui.pages import diffs
    from autoresearch.ui.tables import folded

    mode = state(ctx).mode
    exclude({"--stat": is_stat, "--words": is_words}, "--stat", "--words")
    record = open_record(tag)
    ctx.call_on_close(record.close)
    session = record.session()
    one, two = record.resolve(a), record.resolve(b)
    first, second = record.commit_of(a), record.commit_of(b)
    text = record.diff(first, second, is_words=is_words and not mode.is_json)
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
        lines = [*folded(diffs.header(session, one, two), mode.out.width, 4), *lines]
    console.show(mode, lines, pager=not is_pager_off)
