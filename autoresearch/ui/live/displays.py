"""What `run` shows while it works: rows on a terminal, lines in a pipe, JSON lines, or nothing until the end.

A display receives every event; it never slows the loop and never raises because of an event.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from autoresearch.decision.scores import find
from autoresearch.events import (
    SCHEMA,
    Abandoned,
    Alerted,
    Confirmed,
    Event,
    Phase,
    Progress,
    Proposed,
    Reverted,
    SessionEnded,
    SessionStarted,
    Spent,
    TrialJudged,
    VerdictGiven,
    now,
)
from autoresearch.types import Experiment, Session
from autoresearch.ui import text as f
from autoresearch.ui.console import OutputMode
from autoresearch.ui.pages.log import quiet_line
from autoresearch.ui.pages.overview import summary_lines
from autoresearch.ui.summary import summarize

AnyEvent = Event | Progress | Phase

PROGRESS_SECONDS = 60.0
"""The plain display prints at most one line of progress in this time."""
JSON_PROGRESS_SECONDS = 1.0
"""The JSON display prints at most one progress event in this time."""


class Display(Protocol):
    """Receives everything that happens in a session, in order. Any thread may call `handle`."""

    def start(self, read: Callable[[], Session] | None) -> None:
        """Begin; `read` returns the session as it is recorded then, None for a single trial."""
        ...

    def handle(self, event: AnyEvent) -> None:
        """Take note of one event."""
        ...

    def stop(self, session: Session | None) -> None:
        """End, with the session as it is then; prints the summary if there is a session."""
        ...


def make_display(
    mode: OutputMode, *, is_single: bool = False, is_end_shown: bool = True
) -> Display:
    """Return the display for an output mode: live rows need stdout and stderr to be terminals.

    Args:
        mode: How this process prints.
        is_single: One trial outside a session (`try`): its progress on stderr, nothing on stdout.
        is_end_shown: Whether the end of a session is summed up; no where `log` follows at once.
    """
    if is_single:
        return _single_display(mode)
    if mode.is_json:
        return JsonDisplay()
    if mode.is_quiet:
        return QuietDisplay(mode)
    if mode.is_tty and mode.is_live:
        from autoresearch.ui.live.rows import RowsDisplay

        return RowsDisplay(mode, is_end_shown=is_end_shown)
    return PlainDisplay(mode, is_end_shown=is_end_shown)


def _single_display(mode: OutputMode) -> Display:
    if mode.is_live:
        from autoresearch.ui.live.rows import RowsDisplay

        return RowsDisplay(mode, is_single=True)
    return QuietDisplay(mode) if mode.is_quiet or mode.is_json else PlainDisplay(mode, is_talk=True)


class QuietDisplay:
    """Prints only warnings until the end, then one line on stdout."""

    def __init__(self, mode: OutputMode) -> None:
        self._mode = mode

    def start(self, read: Callable[[], Session] | None) -> None:
        """Show nothing."""

    def handle(self, event: AnyEvent) -> None:
        """Show alerts only, on stderr."""
        if isinstance(event, Alerted):
            self._mode.warn(event.text)

    def stop(self, session: Session | None) -> None:
        """Print the one line."""
        if session is not None:
            self._mode.data(quiet_line(session, summarize(session)))


class JsonDisplay:
    """Every event as one line of JSON on stdout, the passing ones rate-limited; then the summary."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = -1e9
        self._phase = ""
        self._lock = threading.Lock()

    def start(self, read: Callable[[], Session] | None) -> None:
        """Print nothing: `session_started` comes as an event."""

    def handle(self, event: AnyEvent) -> None:
        """Print the event; progress at most once a second within one phase."""
        with self._lock:
            if isinstance(event, Progress):
                is_same = event.phase == self._phase
                if is_same and self._clock() - self._last < JSON_PROGRESS_SECONDS:
                    return
                self._last, self._phase = self._clock(), event.phase
            self._write(event_json(event))

    def stop(self, session: Session | None) -> None:
        """Print the summary as the last line."""
        if session is None:
            return
        from autoresearch.ui.pages.as_json import summary_json

        summary = summary_json(summarize(session))
        with self._lock:
            self._write(
                {"v": SCHEMA, "type": "summary", "at": now(), "tag": session.tag, **summary}
            )

    @staticmethod
    def _write(value: Mapping[str, Any]) -> None:
        line = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def event_json(event: AnyEvent) -> dict[str, Any]:
    """Return an event as the object that `run --json` prints."""
    if isinstance(event, Event):
        return event.to_json()
    fields = {k: v for k, v in vars(event).items() if v is not None}
    point = fields.pop("point", None)
    if point is not None:
        fields["loss"] = _finite(point.loss)
        fields["values"] = {k: _finite(v) for k, v in point.values.items()}
    return {"v": SCHEMA, "type": event.type, "at": now(), **fields}


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) < float("inf") else None


class PlainDisplay:
    """One line for each change of state: ISO time, then key=value pairs."""

    def __init__(
        self,
        mode: OutputMode,
        clock: Callable[[], float] = time.monotonic,
        *,
        is_talk: bool = False,
        is_end_shown: bool = True,
    ) -> None:
        self._mode = mode
        self._clock = clock
        self._is_talk = is_talk
        self._is_end_shown = is_end_shown
        self._read: Callable[[], Session] | None = None
        self._last_progress = -1e9
        self._phase = ""
        self._lock = threading.Lock()

    def start(self, read: Callable[[], Session] | None) -> None:
        """Remember where verdicts are read."""
        self._read = read

    def handle(self, event: AnyEvent) -> None:
        """Print a line if the event changes something."""
        judged = None
        if isinstance(event, VerdictGiven) and self._read:
            judged = find(self._read(), event.number)
        with self._lock:
            pairs = _verdict(judged) if judged else self._pairs(event)
            if pairs:
                at = getattr(event, "at", None) or now()
                line = " ".join(
                    [at, *(f"{k}={_value(v)}" for k, v in pairs.items() if v is not None)]
                )
                if self._is_talk:
                    self._mode.say(line)
                else:
                    self._mode.data(line)
                    self._mode.out.file.flush()

    def stop(self, session: Session | None) -> None:
        """Print the summary on stderr: stdout stays one line per event."""
        if session is None or not self._is_end_shown:
            return
        for line in summary_lines(session, summarize(session), utf8=self._mode.is_utf8):
            self._mode.say(line)

    def _pairs(self, event: AnyEvent) -> dict[str, Any]:
        if isinstance(event, Progress):
            return self._progress(event)
        if isinstance(event, Phase):
            return self._phase_pairs(event)
        if isinstance(event, SessionStarted):
            return {
                "event": "start",
                "tag": event.tag,
                "tip": event.tip[:12],
                "proposer": event.model or event.proposer,
                "gpu": event.setup.get("gpu"),
                "sandbox": "none" if event.is_unsafe else event.sandbox or None,
            }
        if isinstance(event, Proposed):
            return {
                "event": "proposed",
                "experiment": event.number,
                "lines": f"+{event.lines_added}-{event.lines_removed}",
                "cost_usd": event.usage.cost_usd,
                "change": f.clean(event.description),
            }
        if isinstance(event, TrialJudged):
            return self._trial(event)
        return self._rare(event)

    def _rare(self, event: AnyEvent) -> dict[str, Any]:
        if isinstance(event, Abandoned):
            return {"event": "abandoned", "experiment": event.number, "reason": event.reason}
        if isinstance(event, Confirmed):
            c = event.confirmation
            return {
                "event": "confirmed",
                "delta": f.delta(c.get("delta")),
                "low": f.delta(c.get("low")),
                "high": f.delta(c.get("high")),
                "split": c.get("split"),
            }
        if isinstance(event, Alerted):
            return {"event": "alert", "text": f.clean(event.text), "command": event.command or None}
        if isinstance(event, Reverted):
            return {"event": "reverted", "experiments": ",".join(map(str, event.numbers))}
        if isinstance(event, Spent):
            cost = event.usage.cost_usd
            return {"event": "cost", "cost_usd": cost, "reason": event.reason or None}
        if isinstance(event, SessionEnded):
            return {"event": "end", "reason": event.reason, "detail": event.detail or None}
        return {}

    def _progress(self, event: Progress) -> dict[str, Any]:
        is_new = event.phase != self._phase
        self._phase = event.phase
        if is_new and event.phase != "train":
            self._last_progress = self._clock()
            return {"event": "phase", "experiment": event.number, "phase": event.phase}
        if self._clock() - self._last_progress < PROGRESS_SECONDS and not is_new:
            return {}
        self._last_progress = self._clock()
        loss = event.point.loss if event.point else None
        return {
            "event": "progress",
            "experiment": event.number,
            "phase": event.phase,
            "seconds": f"{event.seconds:.0f}/{event.budget_seconds:.0f}",
            "loss": _number(loss, ".4f"),
            "tokens_per_second": _number(event.tokens_per_second, ".0f"),
            "memory_mb": _number(event.memory_mb, ".0f"),
        }

    def _phase_pairs(self, event: Phase) -> dict[str, Any]:
        if event.name in {"trial", "decide", "propose"} or (event.name, event.detail) == (
            "request",
            "",
        ):
            return {}
        return {"event": "phase", "phase": event.name, "detail": f.clean(event.detail) or None}

    def _trial(self, event: TrialJudged) -> dict[str, Any]:
        r = event.result
        return {
            "event": "trial",
            "experiment": event.number,
            "trial": event.index + 1,
            "outcome": r.get("outcome"),
            "reason": r.get("reason") or None,
            "score": _number(r.get("score"), ".6f"),
            "tokens": r.get("num_tokens"),
            "took": f.duration(r.get("total_seconds")),
            "memory_mb": _number(r.get("peak_memory_mb"), ".0f"),
        }


def _verdict(e: Experiment) -> dict[str, Any]:
    decision = e.decision if e.number else None
    return {
        "event": "verdict",
        "experiment": e.number,
        "verdict": e.verdict,
        "reason": e.reason or None,
        "score": _number(e.score, ".6f"),
        "delta": _number(decision.delta if decision else None, "+.6f"),
        "p_real": _number(decision.p_real if decision else None, ".3f"),
        "took": None if e.total_seconds is None else f.duration(e.total_seconds),
        "change": f.clean(e.description),
    }


def _number(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)


def _value(value: object) -> str:
    text = f.clean(str(value))
    if text and not any(c in text for c in ' "=\\'):
        return text
    return json.dumps(text, ensure_ascii=False)
