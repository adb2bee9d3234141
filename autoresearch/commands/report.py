"""`autoresearch report`: the session as one file to read, send or print."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoresearch.commands import FromFileOption, TagOption, option, state

if TYPE_CHECKING:
    from autoresearch.record.record import Record
    from autoresearch.types import Session
    from autoresearch.ui.console import OutputMode

FORMATS = ("html", "md", "png", "svg")
WATCH_SECONDS = 5.0


def report(
    ctx: typer.Context,
    output: Annotated[
        str, option("--output -o FILE", "Where to write it; - is stdout. [report.html]")
    ] = "",
    kind: Annotated[
        str, option("--format FORMAT", "html, md, png or svg; default: FILE's extension.")
    ] = "",
    is_opened: Annotated[bool, option("--open", "Open it in the browser.")] = False,
    is_watching: Annotated[bool, option("--watch", "Rewrite it while the session runs.")] = False,
    foreign: FromFileOption = "",
    tag: TagOption = None,
) -> None:
    """Write a report of the session: one HTML file that needs no network, or Markdown, or only the plot.

    The verdict in words, the staircase of gains, what was kept and how sure that is, what did not help, what
    failed, where the time went, the net change, and how to reproduce it.
    """
    from autoresearch.commands._common import exclude, open_record, read_foreign
    from autoresearch.errors import UsageError
    from autoresearch.ui import text as f

    mode = state(ctx).mode
    flags = {"--from": bool(foreign), "--watch": is_watching, "--tag": tag is not None}
    exclude(flags, "--from", "--watch", "--tag")
    kind, path = _target(output, kind)
    if path is None and (is_opened or is_watching or mode.is_json):
        raise UsageError("stdout can be neither opened nor rewritten", hint="give `-o FILE`")
    record: Record | None
    if foreign:
        session, record = read_foreign(Path(foreign)), None
    else:
        record = open_record(tag)
        ctx.call_on_close(record.close)
        record.check_fetched()
        session = record.session()
    if path is None:
        _to_stdout(record, session, kind)
        return
    _write(record, session, kind, path, is_watched=is_watching)
    if is_opened and not _open(path):
        mode.warn(f"no browser could be started; open `{path.resolve().as_uri()}` yourself")
    if mode.is_json:
        mode.json({"path": str(path.resolve()), "format": kind, "bytes": path.stat().st_size})
    elif mode.is_tty:
        mode.say(f"wrote `{path}` ({f.size(path.stat().st_size)})")
    elif not mode.is_quiet:
        mode.data(str(path))
    if is_watching and record is not None:
        _watch(mode, record, kind, path)


def _watch(mode: "OutputMode", record: "Record", kind: str, path: Path) -> None:
    import time

    last = record.session()
    while last.state in {"running", "paused"}:
        time.sleep(WATCH_SECONDS)
        session = record.session()
        if session.journal != last.journal or session.state != last.state:
            _write(record, session, kind, path, is_watched=True)
            if not mode.is_json:
                mode.say(f"wrote `{path}`, {len(session.experiments)} experiments")
        last = session


def _target(output: str, kind: str) -> tuple[str, Path | None]:
    from autoresearch.errors import UsageError

    if kind and kind not in FORMATS:
        raise UsageError(f"no format `{kind}`", hint=f"one of: {', '.join(FORMATS)}")
    if output == "-":
        return kind or "html", None
    if not kind:
        ending = Path(output).suffix.removeprefix(".").lower() if output else "html"
        kind = {"htm": "html", "markdown": "md"}.get(ending, ending)
        if kind not in FORMATS:
            raise UsageError(
                f"`{output}` has no extension of a report format",
                hint="give `--format html`, md, png or svg",
            )
    names = {"html": "report.html", "md": "report.md", "png": "progress.png", "svg": "progress.svg"}
    return kind, Path(output or names[kind])


def _text(
    record: "Record | None", session: "Session", kind: str, *, is_watched: bool = False
) -> str:
    from autoresearch.report.assets import gather

    material = gather(record, session) if record is not None else None
    if kind == "md":
        from autoresearch.report import markdown

        return markdown.render(session, material)
    from autoresearch.report import html

    return html.render(session, material, is_watched=is_watched)


def _to_stdout(record: "Record | None", session: "Session", kind: str) -> None:
    import sys

    if kind in {"html", "md"}:
        sys.stdout.write(_text(record, session, kind))
        return
    from autoresearch.report.plot import to_bytes

    sys.stdout.buffer.write(to_bytes(session, kind))
    sys.stdout.flush()


def _write(
    record: "Record | None", session: "Session", kind: str, path: Path, *, is_watched: bool
) -> None:
    from autoresearch.util.files import write_ours

    if kind in {"html", "md"}:
        data = _text(record, session, kind, is_watched=is_watched).encode()
    else:
        from autoresearch.report.plot import to_bytes

        data = to_bytes(session, kind)
    write_ours(path, data)


def _open(path: Path) -> bool:
    import webbrowser

    return webbrowser.open(path.resolve().as_uri())
