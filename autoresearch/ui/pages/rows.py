"""The experiments of a session as rows: which to show, in which order, in which columns."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from autoresearch.decision.confirmation import carried
from autoresearch.decision.scores import is_doubtful
from autoresearch.errors import UsageError
from autoresearch.events import parse_time
from autoresearch.types import Confirmation, Experiment, Session, State, Verdict, said
from autoresearch.ui import text as f
from autoresearch.ui.tables import Cell, Column

COLUMNS = (
    Column("#", align="right", min_width=3),
    Column("commit", drop=2),
    Column("val_bpb"),
    Column("vs best", align="right", drop=1, is_wanted=True),
    Column("P", align="right", drop=1),
    Column("mem", align="right", drop=3),
    Column("tok/s", align="right", drop=5),
    Column("took", align="right", drop=4),
    Column("verdict"),
    Column("change", is_flexible=True),
)
"""On narrow terminals tok/s, took, mem, commit, P and, last, `vs best` leave in that order."""

SORTS: dict[str, Callable[[Experiment], Any]] = {
    "number": lambda e: e.number,
    "val_bpb": lambda e: e.val_bpb,
    "delta": lambda e: e.decision.delta if e.decision else None,
    "p_real": lambda e: e.p_real,
    "memory": lambda e: e.peak_memory_mb,
    "speed": lambda e: e.tokens_per_second,
    "took": lambda e: e.total_seconds,
    "cost": lambda e: e.usage.cost_usd,
}


@dataclass(frozen=True)
class Filter:
    """What `log` was asked to show."""

    num: int = 20
    """0: all."""
    only_kept: bool = False
    verdicts: tuple[str, ...] = ()
    since: str = ""
    """`2h`, `30m`, `1d`, an experiment `#40`, or an ISO time."""
    theme: str = ""
    sort: str = ""
    """A key of `SORTS`; `-` before it turns the order round. Empty: newest first, `--kept` oldest first."""
    states: tuple[str, ...] = field(default=())


def select(
    session: Session, wanted: Filter, now: datetime | None = None
) -> tuple[list[Experiment], int]:
    """Return the experiments to show in order, and how many matched before `num` cut them.

    Raises:
        UsageError: `sort`, `since` or a verdict names nothing.
    """
    found = list(session.experiments)
    for verdict in wanted.verdicts:
        if verdict not in {v.value for v in Verdict}:
            names = ", ".join(v.value for v in Verdict)
            raise UsageError(f"no verdict `{verdict}`", hint=f"one of: {names}")
    if wanted.only_kept:
        standing = {e.number for e in session.kept} | {0}
        found = [e for e in found if e.number in standing]
    if wanted.verdicts:
        found = [e for e in found if e.verdict is not None and e.verdict.value in wanted.verdicts]
    if wanted.theme:
        word = wanted.theme.casefold()
        found = [e for e in found if word in f.clean(e.theme).casefold()]
    if wanted.since:
        found = [e for e in found if _is_since(e, wanted.since, now)]
    total = len(found)
    found = _sorted(found, wanted)
    return (found[: wanted.num] if wanted.num > 0 else found), total


def _sorted(found: list[Experiment], wanted: Filter) -> list[Experiment]:
    if not wanted.sort:
        return sorted(found, key=lambda e: e.number, reverse=not wanted.only_kept)
    name = wanted.sort.removeprefix("-")
    if name not in SORTS:
        raise UsageError(f"cannot sort by `{name}`", hint=f"one of: {', '.join(SORTS)}")
    key = SORTS[name]
    known = [e for e in found if key(e) is not None]
    known.sort(key=key, reverse=wanted.sort.startswith("-"))
    return known + [e for e in found if key(e) is None]


def _is_since(experiment: Experiment, since: str, now: datetime | None) -> bool:
    text = since.strip()
    if text.lstrip("#").isdigit():
        return experiment.number >= int(text.lstrip("#"))
    units = {"m": 60, "h": 3600, "d": 86_400}
    limit = parse_time(text)
    if text[-1:] in units:
        try:
            seconds = float(text[:-1]) * units[text[-1]]
        except ValueError:
            pass
        else:
            limit = (now or f.now()) - timedelta(seconds=seconds)
    if limit is None:
        raise UsageError(
            f"cannot read the time `{since}`",
            hint="write `--since 2h`, `--since '#40'` or `--since 2026-03-01T22:00`",
        )
    moment = parse_time(experiment.judged_at or experiment.started_at)
    return moment is not None and moment >= limit


def verdict_text(experiment: Experiment) -> str:
    """Return the verdict in words, with its reason where that says more."""
    if experiment.verdict is None:
        return experiment.state.value
    verdict = experiment.verdict
    if verdict is Verdict.KEEP:
        if experiment.number == 0:
            return "baseline"
        if experiment.reverted_by:
            return "keep, undone"
        if is_doubtful(experiment):
            return "keep (luck?)"
    return said(verdict.value, f.clean(experiment.reason))


def verdict_style(experiment: Experiment) -> str:
    """Return the style that repeats the verdict in colour."""
    if experiment.verdict is None:
        return "running" if experiment.state is State.RUNNING else "muted"
    if experiment.reverted_by:
        return "muted"
    if experiment.number == 0:
        return ""
    return (
        "warning"
        if is_doubtful(experiment) and experiment.verdict is Verdict.KEEP
        else (experiment.verdict.value)
    )


def description(experiment: Experiment) -> str:
    """Return the one-line description, cleaned."""
    return f.clean(experiment.description)[:2000]


def columns(
    wanted: Filter, *, has_left_out: bool = False, has_proposer: bool = False
) -> tuple[Column, ...]:
    """Return the columns of the table; what was kept also has its gain since the baseline.

    Args:
        wanted: What `log` was asked to show.
        has_left_out: Whether `confirm --each` says what each kept change is worth.
        has_proposer: Whether several proposed, so that it matters who did.
    """
    found = (*COLUMNS[:-1], Column("by", drop=3), COLUMNS[-1]) if has_proposer else COLUMNS
    if not wanted.only_kept:
        return found
    at = next(i for i, c in enumerate(found) if c.header == "vs best") + 1
    more = [Column("total", align="right", drop=1)]
    if has_left_out:
        more.append(Column("worth", align="right", drop=1))
    return (*found[:at], *more, *found[at:])


def cells(
    experiment: Experiment,
    now: datetime | None = None,
    totals: Mapping[int, float] | None = None,
    left_out: Mapping[int, Confirmation] | None = None,
    *,
    has_proposer: bool = False,
) -> list[Cell]:
    """Return the cells of `columns` for one experiment.

    Args:
        experiment: Whose row it is.
        now: For how long a running one has taken.
        totals: Gains since the baseline by number, where the table shows them.
        left_out: What leaving a change out said, by number, where the table shows it.
        has_proposer: Whether the table says who proposed.
    """
    e = experiment
    style = verdict_style(e)
    faint = "muted" if e.verdict is not Verdict.KEEP and e.state is not State.RUNNING else ""
    took = e.total_seconds
    started = parse_time(e.started_at)
    if took is None and e.state is State.RUNNING and started and now:
        took = (now - started).total_seconds()
    delta = e.decision.delta if e.decision and e.number else None
    commit = e.commit[:7] if e.verdict is Verdict.KEEP and e.commit else f.NONE
    more = [] if totals is None else [Cell(f.delta(totals.get(e.number)), style)]
    if left_out:
        more.append(left_out_cell(left_out.get(e.number)))
    return [
        Cell(str(e.number), "metric" if e.verdict is Verdict.KEEP else faint),
        Cell(commit, "place" if commit != f.NONE else faint),
        Cell(f.bpb(e.val_bpb), faint),
        Cell(f.delta(delta), faint or style),
        *more,
        Cell(f.probability(e.p_real) if e.number else f.NONE, faint),
        Cell(f.memory(e.peak_memory_mb), faint),
        Cell(f.count(e.tokens_per_second), faint),
        Cell(f.duration(took), faint),
        Cell(f.fit(verdict_text(e), 17 if e.reason == "slow" else 16), style),
        *([Cell(f.clean(e.proposer) if e.number else "", faint)] if has_proposer else []),
        Cell(description(e), faint),
    ]


def left_out_cell(confirmation: Confirmation | None) -> Cell:
    """Return what the best loses without a change, and whether that is certain."""
    if confirmation is None:
        return Cell(f.NONE, "muted")
    word = carried(confirmation)
    marks = {"carries": "yes", "unclear": "  ?", "does not": " no"}
    styles = {"carries": "good", "unclear": "", "does not": "warning"}
    return Cell(f"{f.delta(confirmation.delta)} {marks[word]}", styles[word])


TSV_COLUMNS: tuple[tuple[str, Callable[[Experiment], object]], ...] = (
    ("number", lambda e: e.number),
    ("commit", lambda e: e.commit),
    ("state", lambda e: e.state.value),
    ("verdict", lambda e: e.verdict.value if e.verdict else None),
    ("reason", lambda e: e.reason),
    ("val_bpb", lambda e: None if e.val_bpb is None else f"{e.val_bpb:.6f}"),
    ("delta", lambda e: _signed(e.decision.delta if e.decision else None)),
    ("p_real", lambda e: None if e.p_real is None else f"{e.p_real:.4f}"),
    ("trials", lambda e: len(e.trials)),
    ("peak_memory_mb", lambda e: _rounded(e.peak_memory_mb)),
    ("tokens_per_second", lambda e: _rounded(e.tokens_per_second)),
    ("total_seconds", lambda e: _rounded(e.total_seconds)),
    ("proposer", lambda e: e.proposer),
    ("theme", lambda e: e.theme),
    ("lines_added", lambda e: None if e.is_foreign else e.lines_added),
    ("lines_removed", lambda e: None if e.is_foreign else e.lines_removed),
    ("cost_usd", lambda e: None if e.usage.cost_usd is None else f"{e.usage.cost_usd:.6f}"),
    ("started_at", lambda e: e.started_at),
    ("description", lambda e: e.description),
)
"""Columns of the piped form; the description is whole and last."""


def _signed(value: float | None) -> str | None:
    return None if value is None else f"{value:+.6f}"


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f}"


def tsv_rows(experiments: Iterable[Experiment]) -> list[list[object]]:
    """Return the values of `TSV_COLUMNS` for each experiment."""
    return [[value(e) for _, value in TSV_COLUMNS] for e in experiments]
