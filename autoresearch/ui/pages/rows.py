"""The experiments of a session as rows: which to show, in which order, in which columns."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from autoresearch.decision.confirmation import carried
from autoresearch.decision.scores import is_doubtful
from autoresearch.errors import UsageError
from autoresearch.events import parse_time
from autoresearch.types import Confirmation, Experiment, Metric, Session, State, Verdict, said
from autoresearch.ui import text as f
from autoresearch.ui.summary import Step
from autoresearch.ui.tables import Cell, Column, tsv


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
    """A key of `SORTS`, reversed by `-` before it. Empty: newest first, `--kept` oldest first."""


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
    found = _sorted(found, wanted, session.metric)
    return (found[: wanted.num] if wanted.num > 0 else found), total


def _sorted(found: list[Experiment], wanted: Filter, metric: Metric) -> list[Experiment]:
    if not wanted.sort:
        return sorted(found, key=lambda e: e.number, reverse=not wanted.only_kept)
    name = wanted.sort.removeprefix("-")
    name = "score" if name == metric.name else name
    if name not in SORTS:
        raise UsageError(f"cannot sort by `{name}`", hint=f"one of: {', '.join(SORTS)}")
    key = SORTS[name]
    known = [e for e in found if key(e) is not None]
    known.sort(key=key, reverse=wanted.sort.startswith("-"))
    return known + [e for e in found if key(e) is None]


def _is_since(experiment: Experiment, since: str, now: datetime | None) -> bool:
    text = since.strip()
    if re.fullmatch("#?[0-9]{1,18}", text):
        return experiment.number >= int(text.removeprefix("#"))
    limit = parse_time(text)
    if found := re.fullmatch(r"([0-9]*\.?[0-9]+)([mhd])", text):
        seconds = float(found[1]) * {"m": 60, "h": 3600, "d": 86_400}[found[2]]
        ago = timedelta(seconds=min(seconds, 3e9))  # a century is before every experiment
        limit = (now or f.now()) - ago if ago else None
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
        word = f.clean(experiment.reason) if experiment.is_foreign else ""
        return word or experiment.state.value
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


@dataclass(frozen=True)
class Row:
    """One experiment as a row of the screen."""

    experiment: Experiment
    now: datetime
    """For how long a running one has taken."""
    step: Step | None = None
    """What the change adds to the way to the best, in the table of what was kept."""
    digits: int = 6
    """Decimals of scores that the noise allows."""
    is_narrow: bool = False
    """Whether a long reason must be cut."""

    @property
    def faint(self) -> str:
        """The style of cells that stand out only for what was kept."""
        e = self.experiment
        return "" if e.verdict is Verdict.KEEP or e.state is State.RUNNING else "muted"

    @property
    def seconds(self) -> float | None:
        """How long all its trials took, until now where it runs."""
        e = self.experiment
        started = parse_time(e.started_at)
        if e.total_seconds is None and e.state is State.RUNNING and started:
            return (self.now - started).total_seconds()
        return e.total_seconds


def left_out_cell(confirmation: Confirmation | None, digits: int) -> Cell:
    """Return what the best loses without a change, and whether that is certain."""
    if confirmation is None:
        return Cell(f.NONE, "muted")
    word = carried(confirmation)
    marks = {"carries": "yes", "unclear": "  ?", "does not": " no"}
    styles = {"carries": "good", "unclear": "", "does not": "warning"}
    return Cell(f"{f.delta(confirmation.delta, digits)} {marks[word]}", styles[word])


def _commit_cell(row: Row) -> Cell:
    e = row.experiment
    if e.verdict is Verdict.KEEP and e.commit:
        return Cell(e.commit[:7], "place")
    return Cell(f.NONE, row.faint)


def _delta_cell(row: Row) -> Cell:
    e = row.experiment
    delta = e.decision.delta if e.decision and e.number else None
    if row.step:
        delta = row.step.delta
    return Cell(f.delta(delta, row.digits), row.faint or verdict_style(e))


def _verdict_cell(row: Row) -> Cell:
    e = row.experiment
    return Cell(f.fit(verdict_text(e), 16 if row.is_narrow else 24), verdict_style(e))


@dataclass(frozen=True)
class LogColumn:
    """One column of `log`: on the screen, in the piped form, as a key of `--sort`, or some of these."""

    value: Callable[[Experiment], Any] = lambda _: None
    name: str = ""
    """In the piped form; empty: not there."""
    form: str = ""
    """Format of a number in the piped form."""
    sort: str = ""
    """Key of `--sort`; empty: none."""
    column: Column | None = None
    """On the screen; None: not there."""
    cell: Callable[[Row], Cell] = lambda _: Cell("")
    only: str = ""
    """`kept`: only with `--kept`; `each`: only there after `confirm --each`; `mixed`: only with several proposers."""


LOG: tuple[LogColumn, ...] = (
    LogColumn(
        lambda e: e.number, "number", sort="number", column=Column("#", align="right", min_width=3),
        cell=lambda r: Cell(
            str(r.experiment.number),
            "metric" if r.experiment.verdict is Verdict.KEEP else r.faint,
        ),
    ),
    LogColumn(lambda e: e.commit, "commit", column=Column("commit", drop=2), cell=_commit_cell),
    LogColumn(lambda e: e.state.value, "state"),
    LogColumn(lambda e: e.verdict.value if e.verdict else None, "verdict"),
    LogColumn(lambda e: e.reason, "reason"),
    LogColumn(
        lambda e: e.score, "score", ".6f", "score", Column("score"),
        lambda r: Cell(f.score(r.experiment.score, r.digits), r.faint),
    ),
    LogColumn(
        lambda e: e.decision.delta if e.decision else None, "delta", "+.6f", "delta",
        Column("vs best", align="right", drop=1, is_wanted=True), _delta_cell,
    ),
    LogColumn(
        column=Column("total", align="right", drop=1), only="kept",
        cell=lambda r: Cell(f.delta(r.step.cumulative if r.step else None, r.digits), verdict_style(r.experiment)),
    ),
    LogColumn(
        column=Column("worth", align="right", drop=1), only="each",
        cell=lambda r: left_out_cell(r.step.left_out if r.step else None, r.digits),
    ),
    LogColumn(
        lambda e: e.p_real, "p_real", ".4f", "p_real", Column("P", align="right", drop=1),
        lambda r: Cell(f.probability(r.experiment.p_real) if r.experiment.number else f.NONE, r.faint),
    ),
    LogColumn(lambda e: len(e.trials), "trials"),
    LogColumn(
        lambda e: e.peak_memory_mb, "peak_memory_mb", ".0f", "memory",
        Column("mem", align="right", drop=3),
        lambda r: Cell(f.memory(r.experiment.peak_memory_mb), r.faint),
    ),
    LogColumn(
        lambda e: e.tokens_per_second, "tokens_per_second", ".0f", "speed",
        Column("tok/s", align="right", drop=5),
        lambda r: Cell(f.count(r.experiment.tokens_per_second), r.faint),
    ),
    LogColumn(
        lambda e: e.total_seconds, "total_seconds", ".0f", "took",
        Column("took", align="right", drop=4), lambda r: Cell(f.duration(r.seconds), r.faint),
    ),
    LogColumn(column=Column("verdict"), cell=_verdict_cell),
    LogColumn(
        lambda e: e.proposer, "proposer", column=Column("by", drop=3), only="mixed",
        cell=lambda r: Cell(f.clean(r.experiment.proposer) if r.experiment.number else "", r.faint),
    ),
    LogColumn(lambda e: e.theme, "theme"),
    LogColumn(lambda e: None if e.is_foreign else e.lines_added, "lines_added"),
    LogColumn(lambda e: None if e.is_foreign else e.lines_removed, "lines_removed"),
    LogColumn(lambda e: e.usage.cost_usd, "cost_usd", ".6f", "cost"),
    LogColumn(lambda e: e.started_at, "started_at"),
    LogColumn(
        lambda e: e.description, "description", column=Column("change", is_flexible=True),
        cell=lambda r: Cell(description(r.experiment), r.faint),
    ),
)  # fmt: skip
"""In the order of both forms. On narrow terminals the columns with the largest `drop` leave first."""

SORTS = {c.sort: c.value for c in LOG if c.sort}


def table(
    experiments: Iterable[Experiment],
    now: datetime,
    steps: Sequence[Step] | None = None,
    *,
    is_mixed: bool = False,
    digits: int = 6,
    is_narrow: bool = False,
    metric: Metric,
) -> tuple[list[Column], list[list[Cell]]]:
    """Return the columns and the rows of the screen.

    Args:
        experiments: In the order of the rows.
        now: For how long a running one has taken.
        steps: The standing keeps, for the table of what was kept.
        is_mixed: Whether several proposers took part.
        digits: Decimals of scores that the noise allows.
        is_narrow: Whether long reasons must be cut.
        metric: Its name heads the scores.
    """
    by_number = {step.experiment.number: step for step in steps or ()}
    is_each = any(step.left_out for step in by_number.values())
    is_there = {"": True, "kept": steps is not None, "each": is_each, "mixed": is_mixed}
    shown = [(c.column, c.cell) for c in LOG if c.column and is_there[c.only]]
    rows = (Row(e, now, by_number.get(e.number), digits, is_narrow) for e in experiments)
    named = Column(f.fit(f.clean(metric.name), 16))
    columns = [named if column.header == "score" else column for column, _ in shown]
    return columns, [[cell(row) for _, cell in shown] for row in rows]


def render_tsv(experiments: Iterable[Experiment], metric: Metric) -> str:
    """Return a header and one tab-separated row per experiment, the whole description last."""
    piped = [c for c in LOG if c.name]

    def field(column: LogColumn, experiment: Experiment) -> object:
        value = column.value(experiment)
        return format(value, column.form) if column.form and value is not None else value

    names = [f.clean(metric.name) if c.name == "score" else c.name for c in piped]
    return tsv(names, [[field(c, e) for c in piped] for e in experiments])
