"""The live view of `run` on a terminal: a few fixed rows, finished experiments scroll above as ordinary lines."""

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from rich.cells import cell_len
from rich.text import Text

from autoresearch.decision.confirmation import LEFT_OUT
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
from autoresearch.types import Confirmation, Experiment, Metric, Session
from autoresearch.ui import text as f
from autoresearch.ui.conclusion import measured
from autoresearch.ui.console import OutputMode, styled
from autoresearch.ui.live.state import LiveState
from autoresearch.ui.pages.overview import next_line, summary_lines, word_for
from autoresearch.ui.pages.rows import verdict_style, verdict_text
from autoresearch.ui.screen import Rows
from autoresearch.ui.summary import digits_of, noise_of, summarize
from autoresearch.ui.tables import folded


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
        self._read: Callable[[], Session] | None = None
        self._state = LiveState(clock=clock)
        self._is_headed = False
        self._lock = threading.RLock()
        self._rows = Rows(mode.err, self.draw, self.title)

    def title(self) -> str:
        """Return the title of the terminal: `#12 60% best 0.9938 nov21`."""
        with self._lock:
            state = self._state
            p, session = state.progress, state.session
            parts = [] if state.current is None else [f"#{state.current}"]
            if p is not None and p.phase == "train" and p.budget_seconds > 0:
                parts.append(f"{min(p.seconds / p.budget_seconds, 1):.0%}")
            parts += [_best_text(state).partition(" (")[0], f.clean(session.tag) if session else ""]
        return " ".join(filter(None, parts)) or "autoresearch"

    def start(self, read: Callable[[], Session] | None) -> None:
        """Take over the bottom of the terminal."""
        self._read = read
        self._state = LiveState(read() if read else None, self._clock)
        self._rows.start(refresh=True)

    def handle(self, event: Event | Progress | Phase) -> None:
        """Note the event; print a line above the rows where it finishes something."""
        session = self._read() if self._read and isinstance(event, Event) else None
        with self._lock:
            self._state.handle(event, session)
            is_shown = not self._is_single or isinstance(event, TrialJudged)
            line = event_line(event, self._state, self._rows.width) if is_shown else None
        if line is not None:
            if isinstance(event, VerdictGiven) and not self._is_headed:
                self._is_headed = True
                self._mode.err.print(
                    _heads(session.metric if session else Metric(), self._rows.width),
                    soft_wrap=True,
                )
            for part in folded(line, self._rows.width, 6):
                self._mode.err.print(part, soft_wrap=True)

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
                self._state,
                width=width,
                utf8=self._mode.is_utf8,
                clock=self._clock(),
                is_single=self._is_single,
            )


def event_line(event: Event | Progress | Phase, state: LiveState, width: int) -> Text | None:
    """Return the line that scrolls for an event, or None."""
    if isinstance(event, VerdictGiven):
        experiment = state.experiment(event.number)
        digits = _digits(state.session)
        return verdict_line(experiment, width, digits) if experiment else None
    if isinstance(event, TrialJudged):
        return _trial_line(event, state)
    if isinstance(event, Phase) and event.name == "plan":
        return styled(f"plan: {f.clean(event.detail)}", "muted")
    if isinstance(event, Alerted):
        line = styled("  !  ", "warning").append(f.clean(event.text), style="default")
        return line.append(f": `{f.clean(event.command)}`") if event.command else line
    if isinstance(event, Abandoned):
        return styled(f"{event.number:>4}  abandoned: {f.clean(event.reason)}", "muted")
    if isinstance(event, Reverted):
        return styled(f"      undone: {f.numbers(event.numbers)}", "warning")
    if isinstance(event, Confirmed):
        c = Confirmation(**event.confirmation)
        what = f"#{c.reference} left out" if c.kind == "each" else "confirmation"
        return styled(f"      {what}", "heading").append(f"  {measured(c)}", style="default")
    if isinstance(event, SessionStarted):
        gpu = f.clean(str(event.setup.get("gpu", "")))
        who = f.clean(event.model or event.proposer)
        sandbox = "NO SANDBOX" if event.is_unsafe else f"sandbox {f.clean(event.sandbox)}"
        return styled(f"session {f.clean(event.tag)}  {gpu}  {who}  {sandbox}", "muted")
    return None


def _digits(session: Session | None) -> int:
    return digits_of(noise_of(session), session.metric) if session else f.decimals(None)


def _heads(metric: Metric, width: int) -> Text:
    """Return what stands above the first of the lines of `verdict_line`."""
    line = f"{'#':>4}  {'verdict':<14}  {f.fit(f.clean(metric.name), 8):<8}  {'vs best':>9}"
    line += f"  {'P':>4}" * (width >= 76) + f"  {'took':>6}" * (width >= 64)
    return styled(f"{line}  change"[:width], "label")


def verdict_line(e: Experiment, width: int, digits: int) -> Text:
    """Return number, verdict, score, delta, P, time, description; columns leave from the right."""
    decision = e.decision if e.number else None
    line = styled(f"{e.number:>4}  ", "default")
    line.append(f"{f.fit(verdict_text(e), 18):<14}", style=verdict_style(e) or "heading")
    delta = f.delta(decision.delta if decision else None, digits)
    line.append(f"  {f.score(e.score, digits):<8}  {delta:>9}", style="default")
    if width >= 76:
        line.append(f"  {f.probability(decision.p_real if decision else None):>4}", style="default")
    if width >= 64:
        line.append(f"  {f.duration(e.total_seconds):>6}", style="muted")
    rest = width - cell_len(line.plain) - 3
    if rest >= 8:
        line.append("  " + f.fit(f.clean(e.description), rest), style="default")
    return line


def _trial_line(event: TrialJudged, state: LiveState) -> Text | None:
    is_one_of_many = event.number == 0 or event.index > 0 or event.confirmation
    result = event.result
    if not is_one_of_many and result.get("outcome") != "tainted":
        return None
    split = result.get("split", "validation")
    what = f.clean((state.session.metric if state.session else Metric()).on(split))
    experiment = state.experiment(event.number)
    is_left_out = event.confirmation.rpartition("/")[2].startswith(LEFT_OUT)
    which = "left out" if is_left_out else f"trial {event.index + 1}"
    line = styled(f"{event.number:>4}  {which}  ", "muted")
    score = result.get("score")
    reason = f.clean(f"{result.get('outcome')} {result.get('reason', '')}").strip()
    line.append(f"{what} {f.score(score)}" if score is not None else reason)
    if result.get("outcome") == "tainted":
        line.append("  does not count" if score is None else f"  does not count: {reason}")
    elif experiment and event.number and event.index == 1 and not event.confirmation:
        first = experiment.trials[0].result
        line.append(f"  trial 1 {f.score(first.score) if first.ok else f.clean(first.outcome)}")
    return line.append(
        f"  {f.count(result.get('num_tokens'))} tokens  {f.duration(result.get('total_seconds'))}"
    )


def live_rows(
    state: LiveState, *, width: int, utf8: bool, clock: float, is_single: bool = False
) -> list[Text]:
    """Return the fixed rows; their number never changes within one display."""
    rule = styled(("\u2500" if utf8 else "-") * (width - 1), "muted")
    rows = [
        rule,
        _idea_row(state, width, is_single=is_single),
        _trial_row(state, width, utf8, clock),
    ]
    if not is_single:
        rows.append(_next_row(state, clock))
        rows.append(_night_row(state, width, clock))
    repeated = "" if is_single else "; the next run repeats this trial"
    if state.request:
        rows.append(styled(f"      {f.clean(state.request)}", "warning"))
    else:
        rows.append(styled(f"      Ctrl-C stops{repeated}", "muted"))
    return rows


def _label(text: str) -> Text:
    return styled(f"{text:<9} ", "label")


def _idea_row(state: LiveState, width: int, *, is_single: bool = False) -> Text:
    number = state.current
    if is_single:
        detail = f.clean(state.phase.detail) if state.phase else ""
        return _label("  trial").append(detail or "starting", style="metric")
    if number is None:
        line = _label("")
        name = state.phase.name if state.phase else "starting"
        is_idle = state.proposing is not None and name == "decide"
        line.append(word_for("propose" if is_idle else name), style="default")
        if state.phase and state.phase.name == "wait" and state.phase.detail:
            line.append(f" ({f.clean(state.phase.detail)})", style="muted")
    else:
        line = _label(f"{number:>4}")
        e = state.experiment(number)
        detail = state.phase.detail if state.phase else ""
        text = f.clean((e.description if e else "") or detail or ("" if number else "baseline"))
        changed = f" (+{e.lines_added} -{e.lines_removed})" if e and number else ""
        changed += f", trial {len(e.trials) + 1}" if e and e.trials else ""
        if state.phase and state.phase.name == "confirm" and detail:
            text, changed = f"confirming {f.clean(detail)}", ""
        right = cell_len(_best_text(state)) + 4
        line.append(f.fit(text + changed, max(width - 10 - right, 16)), style="metric")
    best = _best_text(state)
    gap = width - 1 - cell_len(line.plain) - cell_len(best)
    if best and gap >= 2:
        line.append(" " * gap + best, style="default")
    return line


def _best_text(state: LiveState) -> str:
    best = state.experiment(state.session.best) if state.session else None
    if best is None or best.score is None or best.verdict is None:
        return ""
    digits = _digits(state.session)
    return f"best {f.score(best.score, digits)} (#{best.number})"


def _trial_row(state: LiveState, width: int, utf8: bool, clock: float) -> Text:
    p = state.progress
    if p is None:
        line = _label("")
        if state.current is not None and state.phase is not None:
            line.append(word_for(state.phase.name), style="default")
            line.append(f" {f.duration(clock - state.phase_at)}", style="muted")
        return line
    line = _label("  " + word_for(p.phase))
    seconds = p.seconds
    if p.phase == "train":
        seconds = min(p.seconds + max(clock - state.progress_at, 0.0), p.budget_seconds)
        share = seconds / p.budget_seconds if p.budget_seconds > 0 else 0.0
        bar_width = 12 if width < 90 else 22 if width < 130 else 32
        line.append(f.bar(share, bar_width, utf8=utf8), style="running")
        line.append(f" {share:>4.0%} {f.duration(seconds)}/{f.duration(p.budget_seconds)}")
    else:
        line.append(f"{f.duration(seconds + max(clock - state.progress_at, 0.0))}", style="default")
    for part in _trial_parts(p, state, utf8):
        if cell_len(line.plain) + cell_len(part) + 2 < width:
            line.append("  " + part, style="default")
    return line


def _trial_parts(p: Progress, state: LiveState, utf8: bool) -> list[str]:
    parts = []
    loss = state.losses[-1] if state.losses else None
    if loss is not None:
        curve = f.sparkline(state.losses[-200:], 12, utf8=utf8) if len(state.losses) > 2 else ""
        parts.append(f"loss {loss:.3f} {curve}".rstrip())
    if p.tokens_per_second is not None:
        parts.append(f"{f.count(p.tokens_per_second)} tok/s")
    if p.memory_mb is not None:
        parts.append(f.memory(p.memory_mb))
    if p.num_steps and p.phase == "train":
        parts.append(f"step {p.num_steps}")
    return parts


def _next_row(state: LiveState, clock: float) -> Text:
    line = _label("  next")
    if waiting := state.waiting:
        more = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
        text = f"#{waiting[0].number} ready{more}: {f.clean(waiting[0].description)}"
        return line.append(text, style="default")
    if state.proposing is not None:
        detail = f.clean(state.proposing.detail) or "the proposer is thinking"
        if away := state.away:
            detail = f"waits to ask {f.clean(away)} again"
        return line.append(f"{detail} {f.duration(clock - state.proposing_at)}", style="default")
    return line.append("not proposed yet", style="muted")


def _night_row(state: LiveState, width: int, clock: float) -> Text:
    line = _label("  night")
    numbers = state.num_by_verdict
    limit = state.session.limits.get("experiments") if state.session else 0
    done = f"{numbers.total()} of {limit}" if limit else str(numbers.total())
    line.append(f"{done} done", style="default")
    for verdict in ("keep", "held", "discard", "crash", "invalid"):
        if number := numbers[verdict]:
            line.append("  ").append(f"{number} {verdict}", style=verdict)
    if numbers["slow"]:
        line.append(f"  {numbers['slow']} stopped: too slow", style="crash")
    elapsed = clock - state.started
    parts = [f.duration(elapsed)]
    money = state.session.limits.get("max_cost_usd") or 0 if state.session else 0
    cost = state.cost_usd
    if cost is not None or money:
        limit = f" of {f.money(money)}" if money else ""
        parts.append(f"{f.money(cost or 0.0)}{limit}")
    parts += _limit_parts(state, elapsed)
    for part in parts:
        if cell_len(line.plain) + cell_len(part) + 3 < width:
            line.append("   " + part, style="default")
    return line


def _limit_parts(state: LiveState, elapsed: float) -> list[str]:
    parts = []
    limits = state.session.limits if state.session else {}
    each = elapsed / state.num_this_run if state.num_this_run else None
    seconds = limits.get("seconds") or 0
    if seconds:
        left = max(seconds - elapsed, 0.0)
        end = datetime.now().astimezone() + timedelta(seconds=left)
        parts.append(f"until {end:%H:%M}, {f.duration(left)} left")
        if each and left >= each:
            parts.append(f"about {left / each:.0f} more")
    left_in_number = (limits.get("experiments") or 0) - state.num_by_verdict.total()
    if each and left_in_number > 0 and not seconds:
        parts.append(f"about {f.duration(left_in_number * each)} left")
    return parts
