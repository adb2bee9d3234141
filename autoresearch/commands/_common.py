"""Shared by the verbs: open the record, read its files, complete ids in the shell."""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from autoresearch.config import Loaded
    from autoresearch.paths import RunDirectory
    from autoresearch.record.record import Record
    from autoresearch.types import Experiment, Session
    from autoresearch.ui.console import OutputMode
    from autoresearch.ui.pages.as_json import Details

T = TypeVar("T")


def open_record(tag: str | None = None) -> "Record":
    """Return the record of the run directory that holds the current folder."""
    from autoresearch.paths import find_run_directory
    from autoresearch.record.record import Record

    return Record.open(find_run_directory(), tag)


def require_trust(mode: "OutputMode", run_directory: "RunDirectory", loaded: "Loaded") -> None:
    """Ask about settings that start programs and the like, and links out, once for their present text.

    Raises:
        PrerequisiteError: there is no terminal to ask on.
        Abort: the answer was no.
    """
    import sys

    import typer

    from autoresearch.rundir.trust import refusal, trust, untrusted

    if not (lines := untrusted(run_directory, loaded)):
        return
    if mode.is_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise refusal(lines)
    question = "\n  ".join([f"`{run_directory.root}` was not trusted yet. It says:", *lines])
    typer.confirm(f"{question}\nIs each line as you want it?", abort=True, err=True)
    trust(run_directory, loaded)


def read_foreign(mode: "OutputMode", path: "Path") -> "Session":
    """Return any results.tsv as a session; what is odd in it is said on stderr, unless a screen shows it."""
    from autoresearch.record.results_tsv import read_tsv

    session = read_tsv(path)
    for alert in () if mode.is_tty else reversed(session.alerts):
        mode.warn(alert.text)
    return session


def exclude(flags: "Mapping[str, bool]", flag: str, *others: str) -> None:
    """Raise UsageError if a flag was given together with any of the others.

    Args:
        flags: Whether each was given.
        flag: The one that excludes the others.
        others: What it excludes.
    """
    from autoresearch.errors import UsageError

    both = next((other for other in others if flags[flag] and flags[other]), None)
    if both is not None:
        raise UsageError(f"`{flag}` and `{both}` exclude each other", hint="give one of them")


def complete_experiment(incomplete: str) -> list[tuple[str, str]]:
    """Return ids that begin with what was typed, with their descriptions."""
    from autoresearch.ui.pages.rows import verdict_text
    from autoresearch.ui.text import clean, fit

    def names(record: "Record") -> list[tuple[str, str]]:
        session = record.session()
        found = [("baseline", "experiment 0"), ("best", f"experiment {session.best}")]
        found.append(("last", "the newest experiment"))
        return found + [
            (str(e.number), fit(f"{verdict_text(e)}: {clean(e.description)}", 60))
            for e in reversed(session.experiments)
        ]

    return [pair for pair in _quietly(names) if pair[0].startswith(incomplete)]


def complete_tag(incomplete: str) -> list[str]:
    """Return the tags of the sessions here that begin with what was typed."""
    from autoresearch.record.branches import session_tags

    tags = _quietly(lambda record: list(session_tags(record.repository)))
    return [tag for tag in tags if tag.startswith(incomplete)]


def complete_theme(incomplete: str) -> list[str]:
    """Return the themes of the session that begin with what was typed."""
    themes = _quietly(lambda record: sorted({e.theme for e in record.session().experiments}))
    return [theme for theme in themes if theme and theme.startswith(incomplete)]


def _quietly(read: "Callable[[Record], list[T]]") -> "list[T]":
    """Return what is read from the record; nothing where that fails, for a completion must be silent."""
    try:
        with open_record() as record:
            return read(record)
    except Exception:  # noqa: BLE001 - see above
        return []


def complete_verdict(incomplete: str) -> list[str]:
    """Return the verdicts that begin with what was typed."""
    from autoresearch.types import Verdict

    return [v.value for v in Verdict if v.value.startswith(incomplete)]


def complete_sort(incomplete: str) -> list[str]:
    """Return the keys of `log --sort`, also reversed, that begin with what was typed."""
    from autoresearch.ui.pages.rows import SORTS

    return [key for name in SORTS for key in (name, f"-{name}") if key.startswith(incomplete)]


def details_of(record: "Record", experiment: "Experiment") -> "Details":
    """Read what the record keeps in files about an experiment: change, curves, end of the log."""
    from autoresearch.report.assets import first_trial
    from autoresearch.ui.pages.as_json import Details

    session = record.session()
    e = experiment
    earlier = (p for p in session.experiments if p.number != e.number)
    parent = next((p for p in earlier if p.commit == e.parent and p.commit), None)
    mine, other = first_trial(e), first_trial(parent) if parent else None
    failed = [t for t in e.trials if not t.result.ok and t.event]
    logged = failed[-1:] or [t for t in e.trials if t.event][-1:]
    logs = sorted(record.run_directory.logs.glob(f"{session.tag}/{e.number}-*.log"))
    return Details(
        diff=record.diff(e.parent, e.commit) if e.parent and e.commit and e.number else "",
        curve=record.curve(mine.event) if mine and mine.event else (),
        parent=parent,
        parent_curve=record.curve(other.event) if other and other.event else (),
        log_tail=record.log_tail(logged[0].event) if logged else "",
        log_path=str(logs[-1]) if logs else "",
    )
