"""A session as JSON, and the JSON schema of what `--json` prints; both are part of the interface.

A table names the attributes of a class that one object of the JSON holds. The values are read from the attributes, the
schema from their types. A name that ends in `?` is null where the text is empty.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import datetime
from enum import Enum
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from autoresearch.decision.confirmation import carried, newest
from autoresearch.events import SCHEMA, Event, Phase, Progress
from autoresearch.types import (
    Alert,
    Confirmation,
    CurvePoint,
    Decision,
    Experiment,
    Metric,
    Session,
    SessionNote,
    Setup,
    Trial,
    TrialResult,
    Usage,
)
from autoresearch.ui import text as f
from autoresearch.ui.pages.confirmation import confirmation_json
from autoresearch.ui.pages.diffs import FileStat
from autoresearch.ui.summary import Doing, Step, Summary, doing, summarize
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


SESSION = (
    "tag branch state stop_reason? started_at? ended_at? wall_seconds seed proposer? model? sandbox? is_unsafe"
    " is_validation_visible hardware data config versions tip? journal?"
)
SUMMARY = (
    "baseline_score best_score delta relative estimate trivial_score noise num_tried num_kept num_reverted num_real"
    " doubtful num_by_verdict num_by_reason keep_rate wall_seconds gpu_seconds seconds_by_kind later_seconds busy_share"
    " lost_seconds trajectory num_since_gain p_find marks"
)
USAGE = "cost_usd num_calls tokens_in tokens_out tokens_cached"
STEP = "delta cumulative"
ALERT = "text at? command?"
EXPERIMENT = (
    "number commit? parent? state verdict reason? score p_real proposer? model? theme? description expected_effect?"
    " parameters peak_memory_mb total_seconds setup? identity? started_at? judged_at? reverted_by?"
)
EXPERIMENT_USAGE = "cost_usd tokens_in tokens_out"
TRIAL = "setup? confirmation? purpose? started_at? event?"
RESULT = (
    "seed outcome reason? detail? split score claimed_score score_se num_audited num_steps train_seconds"
    " startup_seconds submit_seconds judge_seconds total_seconds tokens_per_second peak_memory_mb num_params sandbox?"
)
POINT = "seconds num_tokens loss values"


def pick(value: object, names: str) -> dict[str, Any]:
    """Return attributes of an object as JSON values, text of models and programs without control characters."""
    found = {}
    for name in names.split():
        given = getattr(value, name.rstrip("?"))
        if isinstance(given, Enum):
            given = given.value
        elif isinstance(given, str):
            given = clean(given)
        elif isinstance(given, Mapping):
            given = {k: dict(v) if isinstance(v, Mapping) else v for k, v in given.items()}
        elif isinstance(given, tuple):
            given = list(given)
        found[name.rstrip("?")] = None if name.endswith("?") and not given else given
    return found


def log_json(
    session: Session,
    experiments: Sequence[Experiment],
    now: datetime | None = None,
    status: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return `{"schema": 2, "as_of", "session", "summary", "experiments"}`.

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
        **pick(session, SESSION),
        "metric": asdict(session.metric),
        "setup": {**asdict(session.setup), "key": session.setup.key} if session.setup else None,
        "num_experiments": len(session.experiments),
        "notes": [asdict(note) for note in session.notes],
        "confirmations": [confirmation_json(c) for c in session.confirmations],
    }


def summary_json(summary: Summary) -> dict[str, Any]:
    """Return the summary's numbers."""
    s = summary
    return {
        **pick(s, SUMMARY),
        **pick(s.usage, USAGE),
        "best": s.best.number if s.best else None,
        "best_commit": s.best.commit if s.best else None,
        "confirmation": confirmation_json(s.confirmation) if s.confirmation else None,
        "further": [confirmation_json(c) for c in s.further],
        "ladder": [
            {
                "number": step.experiment.number,
                **pick(step, STEP),
                "left_out": confirmation_json(step.left_out) if step.left_out else None,
                "carries": carried(step.left_out) if step.left_out else None,
            }
            for step in s.steps
        ],
        "running": s.running.number if s.running else None,
        "doing": asdict(s.doing) if s.doing else None,
        "alerts": [pick(alert, ALERT) for alert in s.alerts],
        "next": s.next_command or None,
    }


def experiment_json(experiment: Experiment) -> dict[str, Any]:
    """Return one experiment with its trials."""
    e = experiment
    return {
        **pick(e, EXPERIMENT),
        **pick(e.usage, EXPERIMENT_USAGE),
        "delta": e.decision.delta if e.decision else None,
        "decision": asdict(e.decision) if e.decision else None,
        "trials": [trial_json(t) for t in e.trials],
        "hypothesis": clean(e.hypothesis, lines=True) or None,
        "lines_added": None if e.is_foreign else e.lines_added,
        "lines_removed": None if e.is_foreign else e.lines_removed,
    }


def trial_json(trial: Trial) -> dict[str, Any]:
    """Return one trial's figures."""
    r = trial.result
    return {
        **pick(r, RESULT),
        **pick(trial, TRIAL),
        "tokens": r.num_tokens,
    }


def curve_json(points: Sequence[CurvePoint]) -> list[dict[str, Any]]:
    """Return the points of a curve."""
    return [pick(p, POINT) for p in points]


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


def schema_of(hint: Any) -> dict[str, Any]:
    """Return the JSON schema of a type."""
    from pydantic import TypeAdapter

    if get_origin(hint) is UnionType:
        return {"anyOf": [schema_of(one) for one in get_args(hint)]}
    return TypeAdapter(hint).json_schema()


def attributes(cls: type, names: str = "") -> dict[str, Any]:
    """Return the JSON schemas of attributes of a class by name; without names, of all fields of a dataclass."""
    known = get_type_hints(cls)
    found = {}
    for name in names.split() or [field.name for field in fields(cls)]:
        key = name.rstrip("?")
        hint = known[key] if key in known else get_type_hints(getattr(cls, key).fget)["return"]
        found[key] = schema_of(hint | None if name.endswith("?") else hint)
    return found


def object_schema(keys: Mapping[str, Any], optional: Collection[str] = ()) -> dict[str, Any]:
    """Return the JSON schema of an object that has these keys, but for the optional ones, and no others."""
    return {
        "type": "object",
        "properties": dict(keys),
        "required": sorted(keys.keys() - set(optional)),
        "additionalProperties": False,
    }


def _list(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


def _or_null(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": [value, {"type": "null"}]}


_TEXT, _WHOLE, _REAL = ({"type": name} for name in ("string", "integer", "number"))


def schema(name: Literal["log", "show", "events", "diff"] = "log") -> dict[str, Any]:
    """Return the JSON schema of `log --json`, `show --json`, `diff --json` or a line of `run --json`."""
    confirmation = object_schema(attributes(Confirmation) | {"gap": _or_null(_REAL)})
    summary = attributes(Summary, SUMMARY) | attributes(Usage, USAGE)
    summary |= {
        "best": _or_null(_WHOLE),
        "best_commit": _or_null(_TEXT),
        "confirmation": _or_null(confirmation),
        "further": _list(confirmation),
        "ladder": _list(
            object_schema(
                attributes(Step, STEP)
                | {
                    "number": _WHOLE,
                    "left_out": _or_null(confirmation),
                    "carries": {"enum": ["carries", "unclear", "does not", None]},
                }
            )
        ),
        "running": _or_null(_WHOLE),
        "doing": _or_null(object_schema(attributes(Doing))),
        "alerts": _list(object_schema(attributes(Alert, ALERT))),
        "next": _or_null(_TEXT),
    }
    if name == "events":
        last = {"v": {"const": SCHEMA}, "type": {"const": "summary"}, "at": _TEXT, "tag": _TEXT}
        lines = [_event_schema(event) for event in (*Event.__subclasses__(), Progress, Phase)]
        return {"oneOf": [*lines, object_schema(last | summary)]}
    trial = attributes(TrialResult, RESULT) | attributes(Trial, TRIAL)
    trial |= {"tokens": _or_null(_WHOLE)}
    experiment = object_schema(
        attributes(Experiment, EXPERIMENT)
        | attributes(Usage, EXPERIMENT_USAGE)
        | {
            "delta": _or_null(_REAL),
            "decision": _or_null(object_schema(attributes(Decision))),
            "trials": _list(object_schema(trial)),
            "hypothesis": _or_null(_TEXT),
            "lines_added": _or_null(_WHOLE),
            "lines_removed": _or_null(_WHOLE),
        }
    )
    session = attributes(Session, SESSION) | {
        "metric": object_schema(attributes(Metric)),
        "setup": _or_null(object_schema(attributes(Setup) | {"key": _TEXT})),
        "num_experiments": _WHOLE,
        "notes": _list(object_schema(attributes(SessionNote))),
        "confirmations": _list(confirmation),
    }
    curve = _list(object_schema(attributes(CurvePoint, POINT)))
    side = object_schema(attributes(Experiment, "number commit score") | {"name": _TEXT})
    documents = {
        "log": {
            "as_of": _TEXT,
            "session": object_schema(session),
            "summary": object_schema(summary),
            "experiments": _list(experiment),
        },
        "show": {
            "experiment": experiment,
            "confirmations": _list(confirmation),
            "diff": _TEXT,
            "parent": _or_null(_WHOLE),
            "curve": curve,
            "parent_curve": curve,
            "log_tail": _TEXT,
            "log_path": _or_null(_TEXT),
        },
        "diff": {
            "a": side,
            "b": side,
            "delta": _or_null(_REAL),
            "files": _list(object_schema(attributes(FileStat))),
            "diff": _TEXT,
        },
    }
    return object_schema({"schema": {"const": SCHEMA}} | documents[name])


def _event_schema(event: type[Event | Progress | Phase]) -> dict[str, Any]:
    """Return the schema of an event's line; a field with a default may be absent."""
    keys = attributes(event) | {"v": {"const": SCHEMA}, "type": {"const": event.type}, "at": _TEXT}
    if keys.pop("point", None):
        keys |= attributes(CurvePoint, "loss values")
    given = {f.name for f in fields(event) if f.default is f.default_factory is MISSING}
    return object_schema(keys, keys.keys() - given - {"v", "type", "at"})
