"""What the verbs that only look have in common: open the record, complete ids in the shell."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from autoresearch.lab.record import Record
    from autoresearch.types import Experiment
    from autoresearch.ui.show import Details

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


def diff_of(record: "Record", a: "Experiment", b: "Experiment") -> str:
    """Return the unified diff from one experiment to another."""
    return record.repository.diff(a.commit, b.commit)


def details_of(record: "Record", experiment: "Experiment") -> "Details":
    """Read what the record keeps in files about an experiment: change, curves, end of the log."""
    from autoresearch.ui.show import Details

    session = record.session()
    parent = next(
        (e for e in session.experiments if e.commit == experiment.parent and e.commit), None
    )
    curve, log_tail = record.trial_files(experiment)
    return Details(
        diff=record.repository.diff(experiment.parent, experiment.commit)
        if experiment.parent and experiment.commit and experiment.number
        else "",
        curve=curve,
        parent=parent,
        log_tail=log_tail,
    )
