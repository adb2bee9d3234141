"""The live view of `run` on a terminal: a few fixed rows, finished experiments scroll above as ordinary lines."""

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from rich.cells import cell_len
from rich.text import Text

from autoresearch.decision.confirmation import LEFT_OUT
from autoresearch.decision.scores import DOUBTFUL
from autoresearch.events import (
    Abandoned,
    Alerted,
    Confirmed,
    Event,
    Phase,
    Progress,
    Reverted,
    SessionStarted,
    TrialJudged,
    VerdictGiven,
)
from autoresearch.types import Session, said
from autoresearch.ui import text as f
from autoresearch.ui.console import OutputMode, styled
from autoresearch.ui.live.state import Finished, Tally
from autoresearch.ui.pages.overview import next_line, summary_lines
from autoresearch.ui.screen import Rows
from autoresearch.ui.summary import summarize
from autoresearch.ui.tables import folded

PHASE_WORDS = {
    "startup": "start-up",
    "train": "train",
    "submit": "submit",
    "claim": "judge",
    "audit": "audit",
}
LAB_WORDS = {
    "trial": "starting the trial",
    "decide": "deciding",
    "confirm": "confirming the best on fresh seeds",
    "wait": "waiting",
}


class RowsDisplay:
    """See the module."""

    def __init__(
        self,
        mode: OutputMode,
        *,
        is_single: bool = False,
        is_end_shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mode = mode
        self._is_single = is_single
        self._is_end_shown = is_end_shown
        self._clock = clock
        self._tally = Tally(clock=clock, started=clock())
        self._lock = threading.RLock()
        self._rows = Rows(mode.err, self.draw)

    def start(self, session: Session | None) -> None:
        """Take over the bottom of the terminal."""
        if session is not None:
            self._tally = Tally.of(session, self._clock)
        self._rows.start(refresh=True)

    def handle(self, event: Event | Progress | Phase) -> None:
        """Note the event; print a line above the rows where it finishes something."""
        with self._lock:
            self._tally.handle(event)
            is_shown = not self._is_single or isinstance(event, TrialJudged)
            line = event_line(event, self._tally, self._rows.width) if is_shown else None
        if line is not None:
            self._mode.err.print(line, soft_wrap=True)

    def stop(self, session: Session | None) -> None:
        """Give the terminal back and print the summary."""
        self._rows.stop()
        if session is None or not self._is_end_shown:
            return
        summary = summarize(session)
        width = self._rows.width
        lines = summary_lines(session, summary, width=width, utf8=self._mode.is_utf8)
        for line in [Text(), *lines, *folded(next_line(summary), width, 6)]:
            self._mode.out.print(line, soft_wrap=True)

    def draw(self, width: int) -> list[Text]:
        """Return the rows as they are now."""
        with self._lock:
            return live_rows(
                self._tally,
                width=width,
                utf8=self._mode.is_utf8,
                clock=self._clock(),
                is_single=self._is_single,
            )


def event_line(event: Event | Progress | Phase, tally: Tally, width: int) -> Text | None:
    """Return the line that scrolls for an event, or None."""
    if isinstance(event, VerdictGiven):
        return verdict_line(tally.finished(event), width)
    if isinstance(event, TrialJudged):
        return _trial_line(event)
    if isinstance(event, Alerted):
        line = styled("  !  ", "warning").append(f.clean(event.text), style="default")
        return line.append(f": `{f.clean(event.command)}`") if event.command else line
    if isinstance(event, Abandoned):
        return styled(f"{event.number:>4}  abandoned: {f.clean(event.reason)}", "muted")
    if isinstance(event, Reverted):
        return styled("      undone: " + ", ".join(f"#{n}" for n in event.numbers), "warning")
    if isinstance(event, Confirmed):
        c = event.confirmation
        what = f"#{c['reference']} left out" if c.get("kind") == "each" else "confirmation"
        line = styled(f"      {what}", "heading")
        line.append(
            f"  {f.delta(c.get('delta'))} [{f.delta(c.get('low'))}, {f.delta(c.get('high'))}]"
            f" on the {c.get('split', 'test')} split",
            style="default",
        )
        if c.get("is_alarm"):
            line.append("  the gain on validation does not carry over", style="warning")
        return line
    if isinstance(event, SessionStarted):
        gpu = f.clean(str(event.setup.get("gpu", "")))
        who = f.clean(event.model or event.proposer)
        sandbox = "NO SANDBOX" if event.is_unsafe else f"sandbox {f.clean(event.sandbox)}"
        return styled(f"session {f.clean(event.tag)}  {gpu}  {who}  {sandbox}", "muted")
    return None


def verdict_line(finished: Finished, width: int) -> Text:
    """Return number, verdict, val_bpb, delta, P, time, description; columns leave from the right."""
    word = said(finished.verdict, finished.reason)
    style = finished.verdict
    if finished.number == 0:
        word, style = "baseline", "heading"
    elif word == "keep" and finished.p_real is not None and finished.p_real < DOUBTFUL:
        word, style = "keep (luck?)", "warning"
    line = styled(f"{finished.number:>4}  ", "default")
    line.append(f"{f.fit(word, 18):<14}", style=style)
    score = f.bpb(finished.val_bpb)
    line.append(f"  {score:<8}  {f.delta(finished.delta):>9}", style="default")
    if width >= 76:
        line.append(f"  {f.probability(finished.p_real):>4}", style="default")
    if width >= 64:
        line.append(f"  {f.duration(finished.seconds):>6}", style="muted")
    rest = width - cell_len(line.plain) - 3
    if rest >= 8:
        line.append("  " + f.fit(finished.description, rest), style="default")
    return line


def _trial_line(event: TrialJudged) -> Text | None:
    is_one_of_many = event.number == 0 or event.index > 0 or event.confirmation
    result = event.result
    if not is_one_of_many and result.get("outcome") != "tainted":
        return None
    split = result.get("split", "validation")
    what = "test_bpb" if split == "test" else "val_bpb"
    is_left_out = event.confirmation.rpartition("/")[2].startswith(LEFT_OUT)
    which = "left out" if is_left_out else f"trial {event.index + 1}"
    line = styled(f"{event.number:>4}  {which}  ", "muted")
    score = result.get("bpb")
    if score is not None:
        line.append(f"{what} {f.bpb(score)}")
    else:
        line.append(f.clean(f"{result.get('outcome')} {result.get('reason', '')}"))
    return line.append(
        f"  {f.count(result.get('num_tokens'))} tokens  {f.duration(result.get('total_seconds'))}"
    )


def live_rows(
    tally: Tally, *, width: int, utf8: bool, clock: float, is_single: bool = False
) -> list[Text]:
    """Return the fixed rows; their number never changes within one display."""
    rule = styled(("\u2500" if utf8 else "-") * (width - 1), "muted")
    rows = [
        rule,
        _idea_row(tally, width, is_single=is_single),
        _trial_row(tally, width, utf8, clock),
    ]
    if not is_single:
        rows.append(_next_row(tally, clock))
        rows.append(_night_row(tally, width, clock))
    help_text = "^C stops; again to kill" if not is_single else "^C stops"
    rows.append(styled(f"      {help_text}", "muted"))
    return rows


def _label(text: str) -> Text:
    return styled(f"{text:<9} ", "label")


def _idea_row(tally: Tally, width: int, *, is_single: bool = False) -> Text:
    number = tally.current
    if is_single:
        detail = f.clean(tally.phase.detail) if tally.phase else ""
        return _label("  trial").append(detail or "starting", style="metric")
    if number is None:
        line = _label("")
        word = LAB_WORDS.get(tally.phase.name, "") if tally.phase else "starting"
        if tally.proposing and tally.phase and tally.phase.name == "decide":
            word = "waiting for the proposer"
        line.append(word or "starting", style="default")
        if tally.phase and tally.phase.name == "wait" and tally.phase.detail:
            line.append(f" ({f.clean(tally.phase.detail)})", style="muted")
    else:
        idea = tally.idea(number)
        line = _label(f"{number:>4}")
        text = idea.description or f.clean(tally.phase.detail if tally.phase else "")
        changed = f" (+{idea.lines_added} -{idea.lines_removed})" if number else ""
        changed += f", trial {idea.num_trials + 1}" if idea.num_trials else ""
        right = cell_len(_best_text(tally)) + 4
        line.append(f.fit(text + changed, max(width - 10 - right, 16)), style="metric")
    best = _best_text(tally)
    gap = width - 1 - cell_len(line.plain) - cell_len(best)
    if best and gap >= 2:
        line.append(" " * gap + best, style="default")
    return line


def _best_text(tally: Tally) -> str:
    if tally.best_bpb is None:
        return ""
    return f"best {f.bpb(tally.best_bpb)} (#{tally.best})"


def _trial_row(tally: Tally, width: int, utf8: bool, clock: float) -> Text:
    p = tally.progress
    if p is None:
        line = _label("")
        if tally.current is not None and tally.phase is not None:
            line.append(LAB_WORDS.get(tally.phase.name, tally.phase.name), style="default")
            line.append(f" {f.duration(clock - tally.phase_at)}", style="muted")
        return line
    line = _label("  " + PHASE_WORDS.get(p.phase, p.phase))
    seconds = p.seconds
    if p.phase == "train":
        seconds = min(p.seconds + max(clock - tally.progress_at, 0.0), p.budget_seconds)
        share = seconds / p.budget_seconds if p.budget_seconds > 0 else 0.0
        bar_width = 12 if width < 90 else 22 if width < 130 else 32
        line.append(f.bar(share, bar_width, utf8=utf8), style="running")
        line.append(f" {share:>4.0%} {f.duration(seconds)}/{f.duration(p.budget_seconds)}")
    else:
        line.append(f"{f.duration(seconds + max(clock - tally.progress_at, 0.0))}", style="default")
    for part in _trial_parts(p, tally, utf8):
        if cell_len(line.plain) + cell_len(part) + 2 < width:
            line.append("  " + part, style="default")
    return line


def _trial_parts(p: Progress, tally: Tally, utf8: bool) -> list[str]:
    parts = []
    loss = tally.losses[-1] if tally.losses else None
    if loss is not None:
        curve = f.sparkline(tally.losses[-200:], 12, utf8=utf8) if len(tally.losses) > 2 else ""
        parts.append(f"loss {loss:.3f} {curve}".rstrip())
    if p.tokens_per_second is not None:
        parts.append(f"{f.count(p.tokens_per_second)} tok/s")
    if p.memory_mb is not None:
        parts.append(f.memory(p.memory_mb))
    if p.num_steps and p.phase == "train":
        parts.append(f"step {p.num_steps}")
    return parts


def _next_row(tally: Tally, clock: float) -> Text:
    line = _label("  next")
    if tally.waiting:
        idea = tally.idea(tally.waiting[0])
        more = f" and {len(tally.waiting) - 1} more" if len(tally.waiting) > 1 else ""
        return line.append(f"#{idea.number} ready{more}: {idea.description}", style="default")
    if tally.proposing is not None:
        detail = f.clean(tally.proposing.detail) or "the proposer is thinking"
        return line.append(f"{detail} {f.duration(clock - tally.proposing_at)}", style="default")
    return line.append("-", style="muted")


def _night_row(tally: Tally, width: int, clock: float) -> Text:
    line = _label("  night")
    line.append(f"{tally.num_done} done", style="default")
    for verdict in ("keep", "discard", "crash", "invalid"):
        number = tally.num_by_verdict.get(verdict, 0)
        if number:
            line.append("  ").append(f"{number} {verdict}", style=verdict)
    if tally.num_too_slow:
        line.append(f"  {tally.num_too_slow} stopped: too slow", style="crash")
    elapsed = clock - tally.started
    parts = [f.duration(elapsed)]
    money = tally.limits.get("max_cost_usd") or 0
    if tally.cost_usd is not None or money:
        limit = f" of {f.money(money)}" if money else ""
        parts.append(f"{f.money(tally.cost_usd or 0.0)}{limit}")
    parts += _limit_parts(tally, elapsed)
    for part in parts:
        if cell_len(line.plain) + cell_len(part) + 3 < width:
            line.append("   " + part, style="default")
    return line


def _limit_parts(tally: Tally, elapsed: float) -> list[str]:
    parts = []
    left_in_time = None
    each = elapsed / tally.num_this_run if tally.num_this_run else None
    seconds = tally.limits.get("seconds") or 0
    if seconds:
        left = max(seconds - elapsed, 0.0)
        end = datetime.now().astimezone() + timedelta(seconds=left)
        parts.append(f"until {end:%H:%M}, {f.duration(left)} left")
        left_in_time = left / each if each else None
    experiments = tally.limits.get("experiments") or 0
    left_in_number = experiments - tally.num_before - tally.num_this_run if experiments else None
    known = [n for n in (left_in_time, left_in_number) if n is not None]
    if known and min(known) > 0:
        about = "~" if left_in_time is not None and min(known) == left_in_time else ""
        parts.append(f"{about}{min(known):.0f} more")
    return parts
