"""The fold: a session is what its journal's events make of it, one after the other.

`Fold.apply` takes the events as the journal holds them (JSON, not classes), so that fields and kinds of events
that a later version added under the same schema number do no harm. `Fold.session` builds the frozen objects and keeps
those that did not change since the last call, so that following a long journal costs only what is new.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from autoresearch.errors import PrerequisiteError, WorkError
from autoresearch.events import SCHEMA
from autoresearch.types import (
    Alert,
    Busy,
    Confirmation,
    CurvePoint,
    Decision,
    Experiment,
    Outcome,
    ProposerKind,
    Session,
    SessionNote,
    Setup,
    State,
    Trial,
    TrialResult,
    Usage,
    Verdict,
)

CURVE_FILE = "curve.json"
LOG_FILE = "log.txt"
PROGRAM_FILE = "program.md"

T = TypeVar("T")


_fields: dict[type, frozenset[str]] = {}


def _names(cls: type) -> frozenset[str]:
    if cls not in _fields:
        _fields[cls] = frozenset(f.name for f in dataclasses.fields(cls))
    return _fields[cls]


def _make(cls: type[T], values: Mapping[str, Any], **more: Any) -> T:
    known = _names(cls)
    return cls(**{k: v for k, v in values.items() if k in known}, **more)


def result_to_json(result: TrialResult) -> dict[str, Any]:
    """Return a trial's result as `events.TrialJudged.result` holds it: no curve, no log, no missing number."""
    return {
        name: value
        for name in _names(TrialResult)
        if name not in ("curve", "log_tail")
        and (value := getattr(result, name)) is not None
        and value not in ("", {})
    } | {"outcome": str(result.outcome)}


def result_from_json(
    values: Mapping[str, Any], curve: Sequence[CurvePoint] = (), log_tail: str = ""
) -> TrialResult:
    """Return the result that `result_to_json` wrote."""
    fields = {k: v for k, v in values.items() if k not in ("curve", "log_tail", "outcome")}
    return _make(
        TrialResult,
        fields,
        outcome=Outcome(values["outcome"]),
        curve=tuple(curve),
        log_tail=log_tail,
    )


def curve_to_bytes(curve: Sequence[CurvePoint]) -> bytes:
    """Return a curve as compact JSON: a list of `[seconds, num_tokens, loss, {values}]`."""
    from autoresearch.lab.clean import clean_json

    rows = [
        [round(p.seconds, 3), p.num_tokens, p.loss, *([dict(p.values)] if p.values else [])]
        for p in curve
    ]
    return json.dumps(clean_json(rows), separators=(",", ":")).encode()


def curve_from_bytes(data: bytes) -> tuple[CurvePoint, ...]:
    """Return the curve that `curve_to_bytes` wrote."""
    return tuple(
        CurvePoint(row[0], row[1], row[2], row[3] if len(row) > 3 else {})
        for row in json.loads(data)
    )


@dataclass
class _Draft:
    """An experiment under construction."""

    fields: dict[str, Any]
    trials: list[Trial] = field(default_factory=list)
    candidate: str = ""
    built: Experiment | None = None


class Fold:
    """Folds the events of one journal into a `Session`."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.journal = ""
        self.num_events = 0
        self.is_open = False
        """A session started and has not ended."""
        self._experiments: dict[int, _Draft] = {}
        self._session: dict[str, Any] = {}
        self._setups: dict[str, Setup] = {}
        self._confirmations: list[Confirmation] = []
        self._notes: list[SessionNote] = []
        self._alerts: list[Alert] = []
        self._busy: dict[str, float] = {}
        self._other: list[Usage] = []
        self._best = 0
        self._tip = ""
        self._opened_at = ""
        self._last_at = ""
        self._wall_seconds = 0.0

    def apply(self, sha: str, line: str) -> None:
        """Take in the journal's next event.

        Args:
            sha: The journal commit.
            line: Its message: one line of JSON.

        Raises:
            PrerequisiteError: a newer version of autoresearch wrote it.
            WorkError: it is not an event.
        """
        try:
            event = json.loads(line)
            version, kind = int(event["v"]), str(event["type"])
        except (ValueError, KeyError, TypeError) as exc:
            raise _damaged(self.tag, sha) from exc
        if version > SCHEMA:
            raise PrerequisiteError(
                f"session `{self.tag}` was recorded by a newer autoresearch"
                f" (schema {version}, this one reads up to {SCHEMA})",
                hint="update it: `pip install --upgrade autoresearch`",
                kind="record",
            )
        handler = getattr(self, f"_on_{kind}", None)
        if handler is not None:
            try:
                handler(sha, event)
            except (ValueError, KeyError, TypeError, AttributeError) as exc:
                raise _damaged(self.tag, sha) from exc
        self._last_at = str(event.get("at", self._last_at))
        self.journal = sha
        self.num_events += 1

    def candidate(self, number: int) -> str:
        """Return the sha of an experiment's candidate commit, `""` if none was made."""
        return self._experiments[number].candidate

    def session(self) -> Session:
        """Return the session so far; `state` does not know whether a process is alive."""
        known = self._session
        if "started_at" not in known:
            state, reason = "new", ""
        elif self.is_open:
            state, reason = "running", ""
        else:
            reason = str(known.get("stop_reason", ""))
            state = "interrupted" if reason in ("interrupted", "stopped", "error") else "finished"
        wall = self._wall_seconds
        if self.is_open:
            wall += _seconds_between(self._opened_at, self._last_at)
        return Session(
            **{**known, "stop_reason": reason},
            tag=self.tag,
            branch=f"autoresearch/{self.tag}",
            experiments=tuple(self._build(n) for n in sorted(self._experiments)),
            state=cast("Any", state),
            wall_seconds=wall,
            setups=dict(self._setups),
            best=self._best,
            tip=self._tip,
            confirmations=tuple(self._confirmations),
            notes=tuple(self._notes),
            alerts=tuple(self._alerts),
            other_usage=_sum(self._other),
            busy=tuple(Busy(cast("Any", k), v) for k, v in self._busy.items()),
            journal=self.journal,
        )

    def _build(self, number: int) -> Experiment:
        draft = self._experiments[number]
        if draft.built is None:
            draft.built = Experiment(**draft.fields, trials=tuple(draft.trials))
        return draft.built

    def _draft(self, event: Mapping[str, Any]) -> _Draft:
        draft = self._experiments[int(event["number"])]
        draft.built = None
        return draft

    # One method an event

    def _on_session_started(self, _: str, event: dict[str, Any]) -> None:
        setup = _make(Setup, event["setup"])
        self._setups[setup.key] = setup
        if self.is_open:  # the last run died without a word
            self._wall_seconds += _seconds_between(self._opened_at, self._last_at)
        names = (
            "seed", "proposer", "model", "sandbox", "is_validation_visible", "unigram_bpb",
            "hardware", "data", "config", "versions", "limits",
        )  # fmt: skip
        self._session |= {name: event[name] for name in names if name in event}
        self._session["setup"] = setup
        self._session["is_unsafe"] = bool(
            self._session.get("is_unsafe") or event.get("is_unsafe", False)
        )
        self._session.setdefault("started_at", event["at"])
        self._session["ended_at"] = ""
        self._opened_at = event["at"]
        self._tip = self._tip or event["tip"]
        self.is_open = True

    def _on_session_ended(self, _: str, event: dict[str, Any]) -> None:
        self._session["stop_reason"] = event["reason"]
        self._session["ended_at"] = event["at"]
        self._wall_seconds += float(event.get("wall_seconds", 0.0))
        for kind, seconds in event.get("busy", {}).items():
            self._busy[kind] = self._busy.get(kind, 0.0) + float(seconds)
        self.is_open = False

    def _on_proposed(self, sha: str, event: dict[str, Any]) -> None:
        names = (
            "number", "commit", "parent", "identity", "description", "hypothesis",
            "expected_effect", "theme", "note", "parameters", "lines_added", "lines_removed",
        )  # fmt: skip
        fields = {name: event[name] for name in names if name in event}
        fields |= {
            "proposer": cast("ProposerKind", event["proposer"]),
            "state": State.PROPOSED,
            "usage": _make(Usage, event.get("usage", {})),
            "started_at": event["at"],
            "event": sha,
        }
        self._experiments[int(event["number"])] = _Draft(fields, candidate=event["commit"])
        if event.get("note"):
            self._notes.append(SessionNote(event["note"], "agent", event["at"]))

    def _on_trial(self, sha: str, event: dict[str, Any]) -> None:
        draft = self._draft(event)
        result = result_from_json(event["result"])
        confirmation = event.get("confirmation", "")
        draft.trials.append(Trial(result, event["setup"], event["started_at"], sha, confirmation))
        if confirmation:
            return
        if result.outcome is not Outcome.TAINTED:
            draft.fields["setup"] = event["setup"]
        if draft.fields["state"] is State.PROPOSED:
            draft.fields["state"] = State.RUNNING

    def _on_verdict(self, _: str, event: dict[str, Any]) -> None:
        draft = self._draft(event)
        verdict = Verdict(event["verdict"])
        decision = event.get("decision")
        draft.fields |= {
            "state": State.JUDGED,
            "verdict": verdict,
            "reason": event["reason"],
            "decision": _make(Decision, decision) if decision else None,
            "judged_at": event["at"],
            "reverted_by": event.get("displaced_by", ""),
        }
        if event.get("setup"):
            draft.fields["setup"] = event["setup"]
        if verdict is Verdict.KEEP and event.get("commit"):
            draft.fields["commit"] = self._tip = event["commit"]
            self._best = int(event["number"])

    def _on_abandoned(self, _: str, event: dict[str, Any]) -> None:
        self._draft(event).fields |= {
            "state": State.ABANDONED,
            "reason": event["reason"],
            "judged_at": event["at"],
        }

    def _on_confirmed(self, _: str, event: dict[str, Any]) -> None:
        self._confirmations.append(_make(Confirmation, event["confirmation"]))

    def _on_reverted(self, _: str, event: dict[str, Any]) -> None:
        for number in event["numbers"]:
            draft = self._draft({"number": number})
            draft.fields["reverted_by"] = event["commit"]
        self._tip = event["commit"]
        standing = [
            n
            for n, d in self._experiments.items()
            if d.fields.get("verdict") is Verdict.KEEP and not d.fields.get("reverted_by")
        ]
        self._best = max(standing, default=0)

    def _on_tip_moved(self, _: str, event: dict[str, Any]) -> None:
        self._tip = event["after"]

    def _on_note(self, _: str, event: dict[str, Any]) -> None:
        author = "agent" if event.get("author") == "agent" else "human"
        self._notes.append(SessionNote(event["text"], cast("Any", author), event["at"]))

    def _on_cost(self, _: str, event: dict[str, Any]) -> None:
        self._other.append(_make(Usage, event["usage"]))

    def _on_alert(self, _: str, event: dict[str, Any]) -> None:
        self._alerts.append(Alert(event["text"], event["at"], event.get("command", "")))


def _sum(parts: Sequence[Usage]) -> Usage:
    priced = [u.cost_usd for u in parts if u.cost_usd is not None]
    return Usage(
        num_calls=sum(u.num_calls for u in parts),
        tokens_in=sum(u.tokens_in for u in parts),
        tokens_out=sum(u.tokens_out for u in parts),
        tokens_cached=sum(u.tokens_cached for u in parts),
        cost_usd=sum(priced) if priced else None,
        seconds=sum(u.seconds for u in parts),
    )


def _seconds_between(start: str, end: str) -> float:
    from datetime import datetime

    try:
        gap = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    except ValueError:
        return 0.0
    return max(0.0, gap.total_seconds())


def _damaged(tag: str, sha: str) -> WorkError:
    return WorkError(
        f"the journal of session `{tag}` holds a commit that is not an event: `{sha[:12]}`",
        hint=f"look at it with `git show {sha[:12]}`; in a clone, fetch the record again",
        kind="record",
    )
