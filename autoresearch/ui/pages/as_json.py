"""A session as JSON: `log --json`. The schema lies beside this module and is part of the interface."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from autoresearch.decision.confirmation import carried, newest
from autoresearch.types import CurvePoint, Experiment, Session, Trial
from autoresearch.ui import text as f
from autoresearch.ui.pages.confirmation import confirmation_json
from autoresearch.ui.summary import Summary, doing, summarize
from autoresearch.ui.text import clean


@dataclass(frozen=True)
class Details:
    """What is read from the files of the record for one experiment."""

    diff: str = ""
    curve: Sequence[CurvePoint] = ()
    parent: Experiment | None = None
    parent_curve: Sequence[CurvePoint] = ()
    log_tail: str = ""
    log_path: str = ""
    """The whole log on this machine, if it is still there."""


SCHEMA = 1


def schema(name: str = "log") -> dict[str, Any]:
    """Return a checked-in JSON schema: `log`, `show`, `events`, `diff`."""
    path = Path(__file__).parent / "schemas" / f"{name}.schema.json"
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def log_json(
    session: Session,
    experiments: Sequence[Experiment],
    now: datetime | None = None,
    status: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return `{"schema": 1, "as_of", "session", "summary", "experiments"}`.

    Text of models and programs is cleaned of control characters and otherwise whole. Absent numbers are null.
    """
    now = now or f.now()
    return {
        "schema": SCHEMA,
        "as_of": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "session": session_json(session),
        "summary": summary_json(summarize(session, now, present=doing(status, now))),
        "experiments": [experiment_json(e) for e in experiments],
    }


def session_json(session: Session) -> dict[str, Any]:
    """Return what the session is: where, when, with what."""
    return {
        "tag": session.tag,
        "branch": session.branch,
        "state": session.state,
        "stop_reason": session.stop_reason or None,
        "started_at": session.started_at or None,
        "ended_at": session.ended_at or None,
        "wall_seconds": session.wall_seconds,
        "setup": {**asdict(session.setup), "key": session.setup.key} if session.setup else None,
        "seed": session.seed,
        "proposer": session.proposer or None,
        "model": clean(session.model) or None,
        "sandbox": session.sandbox or None,
        "is_unsafe": session.is_unsafe,
        "is_validation_visible": session.is_validation_visible,
        "hardware": dict(session.hardware),
        "data": dict(session.data),
        "config": dict(session.config),
        "versions": dict(session.versions),
        "tip": session.tip or None,
        "journal": session.journal or None,
        "num_experiments": len(session.experiments),
        "notes": [asdict(note) for note in session.notes],
        "confirmations": [confirmation_json(c) for c in session.confirmations],
    }


def summary_json(summary: Summary) -> dict[str, Any]:
    """Return the summary's numbers."""
    s = summary
    return {
        "baseline_bpb": s.baseline_bpb,
        "best": s.best.number if s.best else None,
        "best_commit": s.best.commit if s.best else None,
        "best_bpb": s.best_bpb,
        "delta": s.delta,
        "relative": s.relative,
        "estimate": s.estimate,
        "unigram_bpb": s.unigram_bpb,
        "noise": s.noise,
        "confirmation": confirmation_json(s.confirmation) if s.confirmation else None,
        "further": [confirmation_json(c) for c in s.further],
        "ladder": [
            {
                "number": step.experiment.number,
                "delta": step.delta,
                "cumulative": step.cumulative,
                "left_out": confirmation_json(step.left_out) if step.left_out else None,
                "carries": carried(step.left_out) if step.left_out else None,
            }
            for step in s.steps
        ],
        "num_tried": s.num_tried,
        "num_kept": s.num_kept,
        "num_reverted": s.num_reverted,
        "num_real": s.num_real,
        "doubtful": list(s.doubtful),
        "num_by_verdict": dict(s.num_by_verdict),
        "num_by_reason": {v: dict(r) for v, r in s.num_by_reason.items()},
        "keep_rate": s.keep_rate,
        "wall_seconds": s.wall_seconds,
        "gpu_seconds": s.gpu_seconds,
        "seconds_by_kind": dict(s.seconds_by_kind),
        "later_seconds": s.later_seconds,
        "busy_share": s.busy_share,
        "lost_seconds": dict(s.lost_seconds),
        "cost_usd": s.usage.cost_usd,
        "num_calls": s.usage.num_calls,
        "tokens_in": s.usage.tokens_in,
        "tokens_out": s.usage.tokens_out,
        "tokens_cached": s.usage.tokens_cached,
        "trajectory": s.trajectory,
        "num_since_gain": s.num_since_gain,
        "p_find": s.p_find,
        "running": s.running.number if s.running else None,
        "doing": asdict(s.doing) if s.doing else None,
        "marks": list(s.marks),
        "alerts": [
            {"text": clean(a.text), "at": a.at or None, "command": clean(a.command) or None}
            for a in s.alerts
        ],
        "next": s.next_command or None,
    }


def experiment_json(experiment: Experiment) -> dict[str, Any]:
    """Return one experiment with its trials."""
    e = experiment
    d = e.decision
    return {
        "number": e.number,
        "commit": e.commit or None,
        "parent": e.parent or None,
        "state": e.state.value,
        "verdict": e.verdict.value if e.verdict else None,
        "reason": clean(e.reason) or None,
        "val_bpb": e.val_bpb,
        "delta": d.delta if d else None,
        "p_real": d.p_real if d else None,
        "decision": asdict(d) if d else None,
        "trials": [trial_json(t) for t in e.trials],
        "proposer": e.proposer or None,
        "model": clean(e.model) or None,
        "theme": clean(e.theme) or None,
        "description": clean(e.description),
        "hypothesis": clean(e.hypothesis, lines=True) or None,
        "expected_effect": clean(e.expected_effect) or None,
        "parameters": dict(e.parameters),
        "peak_memory_mb": e.peak_memory_mb,
        "total_seconds": e.total_seconds,
        "cost_usd": e.usage.cost_usd,
        "tokens_in": e.usage.tokens_in,
        "tokens_out": e.usage.tokens_out,
        "lines_added": None if e.is_foreign else e.lines_added,
        "lines_removed": None if e.is_foreign else e.lines_removed,
        "setup": e.setup or None,
        "identity": e.identity or None,
        "started_at": e.started_at or None,
        "judged_at": e.judged_at or None,
        "reverted_by": e.reverted_by or None,
    }


def trial_json(trial: Trial) -> dict[str, Any]:
    """Return one trial's figures."""
    r = trial.result
    return {
        "seed": r.seed,
        "outcome": r.outcome.value,
        "reason": r.reason or None,
        "detail": clean(r.detail) or None,
        "split": r.split,
        "val_bpb": r.bpb if r.split == "validation" else None,
        "test_bpb": r.bpb if r.split == "test" else None,
        "claimed_bpb": r.claimed_bpb,
        "audit_se": r.audit_se,
        "num_audited": r.num_audited,
        "tokens": r.num_tokens,
        "num_steps": r.num_steps,
        "train_seconds": r.train_seconds,
        "startup_seconds": r.startup_seconds,
        "submit_seconds": r.submit_seconds,
        "judge_seconds": r.judge_seconds,
        "total_seconds": r.total_seconds,
        "tokens_per_second": r.tokens_per_second,
        "peak_memory_mb": r.peak_memory_mb,
        "num_params": r.num_params,
        "sandbox": r.sandbox or None,
        "setup": trial.setup or None,
        "confirmation": trial.confirmation or None,
        "started_at": trial.started_at or None,
        "event": trial.event or None,
    }


def curve_json(points: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Return the points of a curve."""
    return [
        {"seconds": p.seconds, "num_tokens": p.num_tokens, "loss": p.loss, "values": dict(p.values)}
        for p in points
    ]


def show_json(session: Session, experiment: Experiment, details: Details) -> dict[str, Any]:
    """Return one experiment with its change, its curve and the end of its output."""
    number = experiment.number
    about = (c for c in session.confirmations if number in (c.reference, c.candidate))
    return {
        "schema": SCHEMA,
        "experiment": experiment_json(experiment),
        "confirmations": [confirmation_json(c) for c in newest(about)],
        "diff": details.diff,
        "parent": details.parent.number if details.parent else None,
        "curve": curve_json(details.curve),
        "parent_curve": curve_json(details.parent_curve),
        "log_tail": clean(details.log_tail, lines=True),
        "log_path": details.log_path or None,
    }
