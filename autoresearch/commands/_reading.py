"""What the verbs that only look have in common: open the record, complete ids in the shell."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from autoresearch.lab.record import Record

NoPagerOption = Annotated[bool, typer.Option("--no-pager", help="Never use a pager.")]


def open_record(tag: str | None = None) -> "Record":
    """Return the record of the run directory that holds the current folder."""
    from autoresearch.lab.record import Record
    from autoresearch.paths import find_run_directory

    return Record.open(find_run_directory(), tag)


def complete_experiment(incomplete: str) -> list[tuple[str, str]]:
    """Return ids that begin with what was typed, with their descriptions; never fails."""
    from autoresearch.ui.format import clean, fit
    from autoresearch.ui.rows import verdict_text

    try:
        session = open_record().session()
    except Exception:  # noqa: BLE001 - a completion that fails must be silent
        return []
    names = [("baseline", "experiment 0"), ("best", f"experiment {session.best}")]
    names.append(("last", "the newest experiment"))
    names += [
        (str(e.number), fit(f"{verdict_text(e)}: {clean(e.description)}", 60))
        for e in reversed(session.experiments)
    ]
    return [(name, text) for name, text in names if name.startswith(incomplete)]
