"""`autoresearch log`: what happened, and what to do next."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoresearch.commands import (
    FromFileOption,
    NoPagerOption,
    TableOption,
    TagOption,
    as_table,
    option,
    state,
)
from autoresearch.commands._common import complete_sort, complete_theme, complete_verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autoresearch.paths import RunDirectory
    from autoresearch.record.record import Record
    from autoresearch.types import Session
    from autoresearch.ui.console import OutputMode
    from autoresearch.ui.pages.rows import Filter

WATCH_SECONDS = 2.0


def log(
    ctx: typer.Context,
    num: Annotated[int, option("-n --num N", "Rows to show; 0 is all.", min=0)] = 20,
    is_kept: Annotated[bool, option("--kept", "Only what was kept, oldest first.")] = False,
    verdict: Annotated[
        list[str] | None,
        option(
            "--verdict NAME",
            "keep, held, discard, crash or invalid; repeatable.",
            autocompletion=complete_verdict,
        ),
    ] = None,
    since: Annotated[
        str, option("--since WHEN", "Only those since 2h, 30m or 1d ago, an experiment or a time.")
    ] = "",
    theme: Annotated[
        str, option("--theme WORD", "Only themes that contain WORD.", autocompletion=complete_theme)
    ] = "",
    sort: Annotated[
        str,
        option(
            "--sort KEY",
            "number, score, delta, p_real, memory, speed, took or cost; prefix with - to reverse.",
            autocompletion=complete_sort,
        ),
    ] = "",
    is_watching: Annotated[
        bool,
        option("--watch", "Follow the session, also one that has not begun yet, until it ends."),
    ] = False,
    is_tsv: Annotated[
        bool,
        option(
            "--tsv", "The five columns of results.tsv, oldest first; all rows unless -n is given."
        ),
    ] = False,
    is_list: Annotated[
        bool, option("--sessions", "List the sessions of this run directory.")
    ] = False,
    is_table: TableOption = False,
    is_pager_off: NoPagerOption = False,
    foreign: FromFileOption = "",
    tag: TagOption = None,
) -> None:
    """Show the session: its state, the gain and how certain it is, its cost, and what to do next.

    Then the experiments, newest first. In a pipe: a header and one tab-separated row per experiment.
    """
    from autoresearch.commands._common import exclude, open_record, read_foreign
    from autoresearch.ui.pages.rows import Filter

    mode = as_table(state(ctx).mode) if is_table else state(ctx).mode
    flags = {"--tsv": is_tsv, "--json": mode.is_json, "--watch": is_watching, "--table": is_table}
    flags |= {"--sessions": is_list, "--from": bool(foreign), "--tag": tag is not None}
    exclude(flags, "--tsv", "--json", "--watch", "--table")
    exclude(flags, "--table", "--json")
    exclude(flags, "--sessions", "--tsv", "--watch", "--tag")
    exclude(flags, "--from", "--watch", "--sessions", "--tag")
    if is_list:
        _show_sessions(mode)
        return
    source = ctx.get_parameter_source("num")
    if is_tsv and source is not None and source.name == "DEFAULT":
        num = 0
    wanted = Filter(num, is_kept, tuple(verdict or ()), since, theme, sort)
    if foreign:
        session = read_foreign(mode, Path(foreign))
        if is_tsv:
            _show_tsv(mode, session, wanted)
        else:
            show_session(mode, session, wanted, pager=not (is_pager_off or is_table))
        return
    record = open_record(tag)
    ctx.call_on_close(record.close)
    if is_watching:
        _watch(mode, record, wanted)
        return
    if record.is_unfetched:
        from autoresearch.record.refs import FETCH

        mode.say(f"the record here is missing or not whole; fetch it: `{FETCH}`", style="hint")
    if is_tsv:
        _show_tsv(mode, record.session(), wanted)
        return
    show_session(
        mode,
        record.session(),
        wanted,
        pager=not (is_pager_off or is_table),
        status=record.presence.status(),
    )
    _tell_past(mode, record)


def status(ctx: typer.Context, tag: TagOption = None) -> None:
    """Print the session as one line, quickly: for a prompt, a status bar or a script.

    Tag, state, experiments tried and kept, the best and its gain. The same as `log --quiet`.
    """
    from dataclasses import replace

    from autoresearch.commands._common import open_record

    mode = state(ctx).mode
    with open_record(tag) as record:
        show_session(mode if mode.is_json else replace(mode, kind="quiet"), record.session())


def _tell_past(mode: "OutputMode", record: "Record") -> None:
    """Say what was tried before the session, whose numbers have no place among its own."""
    from autoresearch.errors import WorkError
    from autoresearch.record.sessions import past

    try:
        found = past(record)
    except WorkError as exc:
        mode.warn(f"what was tried before the session cannot be read: {exc}")
        return
    if not found or mode.is_json:
        return
    num_rows, name = sum(bool(e.trials) for e in found), record.run_directory.results.name
    more = f": `autoresearch log --from {name}`" if num_rows else ""
    what = f"rows of {name}: {num_rows}, commits: {len(found) - num_rows}{more}"
    mode.say(f"tried before the session, told to proposers and not compared: {what}")


def _show_tsv(mode: "OutputMode", session: "Session", wanted: "Filter") -> None:
    from dataclasses import replace

    from autoresearch.record.results_tsv import to_tsv
    from autoresearch.ui import text as f
    from autoresearch.ui.pages.rows import select

    shown, _ = select(session, wanted, f.now())
    experiments = tuple(sorted(shown, key=lambda e: e.number))
    mode.out.file.write(to_tsv(replace(session, experiments=experiments)))


def _show_sessions(mode: "OutputMode") -> None:
    from autoresearch.paths import find_run_directory
    from autoresearch.record.branches import current_tag
    from autoresearch.record.sessions import sessions
    from autoresearch.ui import text as f
    from autoresearch.ui.pages import log as screen

    run_directory = find_run_directory()
    found, now = sessions(run_directory), f.now()
    if mode.is_json:
        mode.json(screen.sessions_json(found, now))
    elif not mode.is_tty:
        mode.out.file.write(screen.render_sessions_tsv(found, now))
    else:
        for line in screen.render_sessions(
            found, current_tag(run_directory.root), mode.out.width, now
        ):
            mode.data(line)
        mode.say("one of them: `autoresearch log --tag SESSION`", style="hint")


def show_log(mode: "OutputMode", run_directory: "RunDirectory", tag: str | None = None) -> None:
    """Print the log of a session of another run directory, at the end of `demo`."""
    from autoresearch.record.record import Record

    with Record.open(run_directory, tag) as record:
        show_session(mode, record.session(), pager=False)


def show_session(
    mode: "OutputMode",
    session: "Session",
    wanted: "Filter | None" = None,
    *,
    pager: bool = True,
    status: "Mapping[str, Any] | None" = None,
) -> None:
    """Print a session in the form that fits the mode."""
    from autoresearch.ui import text as f
    from autoresearch.ui.console import show
    from autoresearch.ui.pages import log as screens
    from autoresearch.ui.pages.rows import Filter, render_tsv, select
    from autoresearch.ui.summary import at_present, doing, summarize

    wanted = wanted or Filter()
    now = f.now()
    present = doing(status, now)
    session = at_present(session, present)
    shown, _ = select(session, wanted, now)
    if mode.is_json:
        from autoresearch.ui.pages.as_json import log_json

        mode.json(log_json(session, shown, now, status))
    elif mode.is_quiet:
        mode.data(screens.quiet_line(session, summarize(session, now, present=present)))
    elif not mode.is_tty:
        mode.out.file.write(render_tsv(shown, session.metric))
        if not session.experiments:
            mode.say("no experiment yet")
        elif not shown:
            mode.say("no experiment matches")
    else:
        lines = screens.render(
            session, wanted, width=mode.out.width, utf8=mode.is_utf8, now=now, status=status
        )
        show(mode, lines, pager=pager)


def _watch(mode: "OutputMode", record: "Record", wanted: "Filter") -> None:
    import time
    from contextlib import nullcontext

    from rich.live import Live
    from rich.text import Text

    from autoresearch.ui.pages.log import GOING_ON, render_watched

    has_begun, last = False, ""
    with (
        Live(console=mode.out, screen=True, auto_refresh=False)
        if mode.is_tty
        else nullcontext() as live
    ):
        while True:
            session = record.session()
            is_over = has_begun and session.state not in GOING_ON
            has_begun = has_begun or session.state in GOING_ON
            if live is not None and not is_over:
                lines = render_watched(
                    session,
                    wanted,
                    width=mode.out.width,
                    height=mode.out.height,
                    status=record.presence.status(),
                )
                live.update(Text("\n").join(lines), refresh=True)
            elif live is None and session.journal != last:
                last = session.journal
                show_session(mode, session, wanted, pager=False, status=record.presence.status())
            if is_over:
                break
            time.sleep(WATCH_SECONDS)
    if live is not None:
        show_session(mode, session, wanted, pager=False)
