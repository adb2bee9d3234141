"""`autoresearch show N`: everything about one experiment."""

from typing import Annotated

import typer

from autoresearch.commands import NoPagerOption, TagOption, experiment_argument, state


def show(
    ctx: typer.Context,
    name: Annotated[str, experiment_argument()] = "last",
    is_pager_off: NoPagerOption = False,
    tag: TagOption = None,
) -> None:
    """Show one experiment: idea, verdict, trials, loss curve next to its parent's, change, and end of its output."""
    from autoresearch.commands._common import details_of, open_record
    from autoresearch.ui import console
    from autoresearch.ui import text as f
    from autoresearch.ui.pages import show as screens
    from autoresearch.ui.pages.rows import verdict_text

    mode = state(ctx).mode
    record = open_record(tag)
    ctx.call_on_close(record.close)
    session = record.session()
    experiment = record.resolve(name)
    if mode.is_quiet:
        mode.data(f"{experiment.number} {verdict_text(experiment)} {f.score(experiment.score)}")
        return
    details = details_of(record, experiment)
    if mode.is_json:
        from autoresearch.ui.pages.as_json import show_json

        mode.json(show_json(session, experiment, details))
        return
    lines = screens.render(session, experiment, details, width=mode.out.width, utf8=mode.is_utf8)
    console.show(mode, lines, pager=not is_pager_off)
