"""What a report needs apart from the session: diffs, curves, logs, files; read from the record once."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autoresearch.decision.scores import find
from autoresearch.types import CurvePoint, Experiment, Session, Trial, Verdict

if TYPE_CHECKING:
    from autoresearch.record.record import Record

MAX_LOGS = 12
"""Failures whose output is read, newest first."""


@dataclass(frozen=True)
class Material:
    """Files of the record that a report shows. Everything may be missing."""

    net_diff: str = ""
    """Baseline to best."""
    diffs: Mapping[int, str] = field(default_factory=dict)
    """Kept experiment -> its own change."""
    curves: Mapping[int, tuple[CurvePoint, ...]] = field(default_factory=dict)
    """Baseline, best and last with a score."""
    log_tails: Mapping[int, str] = field(default_factory=dict)
    constants: tuple[tuple[str, str, str], ...] = ()
    """(name, in the baseline, in the best) of UPPER_CASE constants that differ; `""` where absent."""


def gather(record: "Record", session: Session) -> Material:
    """Read the material of a session; what the record does not hold is left out."""
    baseline, best = find(session, 0), find(session, session.best)
    net = ""
    constants: tuple[tuple[str, str, str], ...] = ()
    if baseline and best and baseline.commit and best.commit and best.number != 0:
        paths = record.editable()
        net = record.diff(baseline.commit, best.commit, paths)
        before, after = record.files(baseline.commit), record.files(best.commit)
        constants = changed_constants(
            {p: before[p] for p in paths if p in before}, {p: after[p] for p in paths if p in after}
        )
    diffs = {
        e.number: record.diff(e.parent, e.commit, record.editable())
        for e in session.kept
        if e.parent and e.commit
    }
    return Material(
        net_diff=net,
        diffs=diffs,
        curves=_curves(record, session, [baseline, best]),
        log_tails=_log_tails(record, session),
        constants=constants,
    )


def first_trial(experiment: Experiment) -> Trial | None:
    """Return the trial whose curve stands for the experiment: the first good one, else the first."""
    good = [t for t in experiment.trials if t.result.ok and not t.confirmation]
    return next(iter(good or experiment.trials), None)


def last_scored(session: Session) -> Experiment | None:
    """Return the newest experiment with a score."""
    return next((e for e in reversed(session.experiments) if e.score is not None), None)


def _curves(
    record: "Record", session: Session, wanted: list[Experiment | None]
) -> dict[int, tuple[CurvePoint, ...]]:
    found = {}
    for e in [*wanted, last_scored(session)]:
        trial = first_trial(e) if e else None
        if e and trial and trial.event and e.number not in found:
            found[e.number] = record.curve(trial.event)
    return found


def _log_tails(record: "Record", session: Session) -> dict[int, str]:
    failed = [
        e for e in session.experiments if e.verdict in {Verdict.CRASH, Verdict.INVALID} and e.trials
    ]
    return {
        e.number: record.log_tail(e.trials[-1].event)
        for e in failed[-MAX_LOGS:]
        if e.trials[-1].event
    }


def changed_constants(
    before: Mapping[str, bytes], after: Mapping[str, bytes]
) -> tuple[tuple[str, str, str], ...]:
    """Return UPPER_CASE constants whose values differ between two sets of files."""
    old, new = _constants(before), _constants(after)
    names = list(dict.fromkeys([*old, *new]))
    return tuple(
        (name, old.get(name, ""), new.get(name, ""))
        for name in names
        if old.get(name) != new.get(name)
    )


def _constants(files: Mapping[str, bytes]) -> dict[str, str]:
    found: dict[str, str] = {}
    for content in files.values():
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError):
            continue
        for node in tree.body:
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            targets = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.AnnAssign):
                targets = [node.target]
            for target in targets:
                if isinstance(target, ast.Name) and target.id.isupper() and value is not None:
                    text = ast.unparse(value)
                    found[target.id] = text if len(text) <= 60 else text[:57] + "..."
    return found
