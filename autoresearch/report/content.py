"""What a report says, as plain values and sentences for the template and the Markdown writer."""

from collections.abc import Sequence
from dataclasses import dataclass

from autoresearch.decision.confirmation import carried
from autoresearch.decision.plateau import PLATEAU_AHEAD
from autoresearch.events import parse_time
from autoresearch.types import Session
from autoresearch.ui import text as f
from autoresearch.ui.pages.confirmation import question, word_of
from autoresearch.ui.pages.overview import STOP_WORDS, device_word
from autoresearch.ui.summary import Summary


@dataclass(frozen=True)
class Card:
    """One number of the headline."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class DiffLine:
    """One line of a diff and what it is: `added`, `removed`, `place`, `heading` or nothing."""

    text: str
    kind: str


@dataclass(frozen=True)
class Rung:
    """One kept experiment."""

    number: int
    commit: str
    change: str
    hypothesis: str
    theme: str
    delta: str
    cumulative: str
    p_real: str
    expected: str
    """Posterior mean and central 90 %, as decided: the gain with luck taken off."""
    worth: str
    """The best with it minus the best without it, on fresh seeds; empty if that was not tried."""
    worth_interval: str
    carries: str
    """`carries`, `unclear` or `does not`; empty if not tried."""
    memory: str
    lines: str
    is_doubtful: bool
    diff: tuple[DiffLine, ...]


@dataclass(frozen=True)
class Check:
    """One answer on fresh seeds."""

    question: str
    answer: str
    is_good: bool
    delta: str
    interval: str
    validation: str
    gap: str
    trials: str


@dataclass(frozen=True)
class Miss:
    """One experiment that was not kept."""

    number: int
    change: str
    delta: str
    reason: str


@dataclass(frozen=True)
class Theme:
    """What did not help under one theme."""

    name: str
    num: int
    num_kept: int
    nearest: Miss | None
    misses: tuple[Miss, ...]
    repeats: tuple[str, ...]
    """`tried 4 times: weight decay 0.2`."""


@dataclass(frozen=True)
class Failure:
    """One reason for crashes or broken rules."""

    verdict: str
    reason: str
    num: int
    lost: str
    numbers: str
    detail: str
    log_tail: str
    log_number: int


@dataclass(frozen=True)
class Slice:
    """A share of the night."""

    kind: str
    label: str
    time: str
    percent: float


@dataclass(frozen=True)
class View:
    """Everything a report shows, in its order."""

    title: str
    subtitle: tuple[str, ...]
    state: str
    verdict: tuple[str, ...]
    cards: tuple[Card, ...]
    marks: tuple[str, ...]
    alerts: tuple[tuple[str, str], ...]
    rungs: tuple[Rung, ...]
    checks: tuple[Check, ...]
    themes: tuple[Theme, ...]
    failures: tuple[Failure, ...]
    night: tuple[Slice, ...]
    spend: tuple[str, ...]
    constants: tuple[tuple[str, str, str], ...]
    net_diff: tuple[DiffLine, ...]
    net_stat: str
    facts: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    """How to reproduce it; empty where there is nothing, or nothing here, to reproduce."""
    notes: tuple[tuple[str, str, str], ...]
    made_at: str
    source: str
    """What it was made from, in words."""
    is_running: bool = False
    is_measured: bool = False
    num_kept: int = 0
    has_worth: bool = False
    """Whether kept changes were left out one at a time."""
    is_confirmed: bool = False
    is_alarm: bool = False
    has_noise: bool = False
    """Whether the noise is known, so that the plot shows it."""
    has_hours: bool = False
    """Whether it is known when the experiments were judged."""
    plot_alt: str = ""


def subtitle(session: Session, s: Summary) -> tuple[str, ...]:
    """Return when, how long, on what, by whom."""
    parts = []
    if session.started_at:
        end = f.clock(session.ended_at, now=parse_time(session.started_at))
        parts.append(
            f"{f.clock(session.started_at)} to {end}"
            if session.ended_at
            else f"since {f.clock(session.started_at)}"
        )
    if s.wall_seconds:
        parts.append(f.duration(s.wall_seconds))
    if session.setup:
        parts.append(f.clean(session.setup.gpu))
        parts.append(f"{session.setup.budget_seconds:g} s a trial")
    parts.append(f.clean(session.model or session.proposer))
    return tuple(p for p in parts if p)


def state(session: Session, s: Summary) -> str:
    """Return whether it runs, or why it stopped."""
    words = {
        "new": "nothing run yet",
        "running": "running",
        "paused": "paused",
        "finished": "finished",
        "interrupted": "stopped",
        "dead": "died without an end record",
    }
    reason = f.clean(session.stop_reason)
    text = words[session.state]
    if reason and session.state not in {"new", "running"}:
        text += f": {STOP_WORDS.get(reason, reason)}"
    if session.state == "running" and s.running:
        text += f" #{s.running.number}: {f.fit(f.clean(s.running.description), 60)}"
    return text


def verdict(s: Summary) -> list[str]:
    """Return the answers in sentences: how much better, is it real, what did it, does it go on."""
    if s.baseline_bpb is None:
        return ["Nothing has been measured yet."]
    if s.best is None or s.best.number == 0:
        tried = f"{s.num_tried} experiments" if s.num_tried else "nothing else"
        return [
            f"No improvement yet: the baseline stands at {f.bpb(s.baseline_bpb)}; tried: {tried}."
        ]
    sentences = [_gain(s), *_reality(s), *_causes(s)]
    is_tried = any(step.left_out for step in s.steps)
    if s.num_kept == 1 and s.num_real is not None:
        sentences.append(
            f"One change was kept; it is an improvement with probability {s.num_real:.2f}."
        )
    elif s.num_kept and s.num_real is not None and not is_tried:
        doubtful = ""
        if s.doubtful:
            doubtful = f"; {len(s.doubtful)} may be luck ({numbers(s.doubtful, 6)})"
        sentences.append(
            f"Of {s.num_kept} kept changes {s.num_real:.1f} are expected to be real{doubtful}."
        )
    trend = {
        "plateau": f"Plateau: no convincing gain in the last {s.num_since_gain} experiments",
        "stuck": f"No convincing gain in {s.num_since_gain} experiments",
    }.get(s.trajectory)
    if trend and s.p_find is not None:
        chance = f.probability(s.p_find)
        trend += f"; the next {PLATEAU_AHEAD} bring one with probability {chance}"
    return [*sentences, trend + "."] if trend else sentences


def _gain(s: Summary) -> str:
    assert s.best is not None
    if s.delta is None:
        return "Baseline and best were measured under different setups, so their difference means nothing."
    times = f", {-s.delta / s.noise:.0f} times the noise" if s.noise and s.delta < 0 else ""
    word = "Better" if s.delta < 0 else "Worse"
    return (
        f"{word} by {abs(s.delta):.6f} bits per byte on validation"
        f" ({f.percent(s.relative, sign=True, digits=2)}{times}); the best is #{s.best.number}."
    )


def _reality(s: Summary) -> list[str]:
    """Return what fresh seeds and the test split say of the gain."""
    c = s.confirmation
    if c is None:
        return [
            "Unconfirmed: best and baseline were not measured again on fresh seeds and the test split."
        ]
    answers = {
        "confirmed": "Confirmed: the gain holds",
        "not confirmed": "Not confirmed: the gain is not certain",
        "worse": "Not confirmed: the best is worse than the baseline",
    }
    found = [
        (
            f"{answers[word_of(c)[0]]} on the {c.split} split, which nothing was selected on, and"
            f" {c.num_trials} fresh seeds each: {f.delta(c.delta)}, 95% interval {f.delta(c.low)} to"
            f" {f.delta(c.high)}."
        )
    ]
    if c.is_alarm:
        found.append(
            f"The gain on validation does not carry over: {f.delta(c.validation_delta)} there once"
            f" luck is taken off, so {abs(c.gap or 0.0):.6f} of it is gone."
        )
    words = {"confirmed": "holds", "worse": "turns into a loss", "not confirmed": "is not certain"}
    others = [f"{question(c)} it {words[word_of(c)[0]]} ({f.delta(c.delta)})" for c in s.further]
    if others:
        text = "; ".join(others)
        found.append(f"{text[0].upper()}{text[1:]}.")
    return found


def _causes(s: Summary) -> list[str]:
    """Return which changes did it: by leaving each out, else by what was measured when they were kept."""
    tried = [step for step in s.steps if step.left_out is not None]
    if tried:
        groups = {
            word: [x.experiment.number for x in tried if x.left_out and carried(x.left_out) == word]
            for word in ("carries", "unclear", "does not")
        }
        text = f"{len(groups['carries'])} of {len(tried)} kept changes carry it"
        if groups["carries"]:
            text += f" ({numbers(groups['carries'], 6)})"
        if groups["unclear"]:
            text += f", {len(groups['unclear'])} may or may not"
        if groups["does not"]:
            text += f", {len(groups['does not'])} do not"
        return [f"Left out one at a time, {text}."]
    gains = [step for step in s.steps if step.delta is not None and step.delta < 0]
    gains.sort(key=lambda step: step.delta or 0.0)
    if len(gains) < 2:
        return []
    named = [
        f"#{g.experiment.number} {f.fit(f.clean(g.experiment.description), 60)} ({f.delta(g.delta)})"
        for g in gains[:3]
    ]
    return ["The largest gains: " + "; ".join(named) + "."]


def cards(session: Session, s: Summary) -> list[Card]:
    """Return the headline numbers."""
    cards = []
    if s.baseline_bpb is not None and s.best is not None and s.best.number != 0:
        note = f"from {f.bpb(s.baseline_bpb)}"
        cards.append(Card(f.bpb(s.best_bpb), "best val_bpb", note))
        if s.delta is not None:
            share = f"{f.percent(s.relative, sign=True, digits=2)} of the baseline"
            cards.append(Card(f.delta(s.delta), "on validation", share))
    elif s.baseline_bpb is not None:
        cards.append(Card(f.bpb(s.baseline_bpb), "val_bpb of the baseline"))
    if s.confirmation is not None:
        c = s.confirmation
        gap = f"gap to validation {f.delta(c.gap)}" if c.gap is not None else ""
        cards.append(Card(f.delta(c.delta), f"{word_of(c)[0]} on the {c.split} split", gap))
    if s.num_tried:
        failed = s.num_by_verdict["crash"] + s.num_by_verdict["invalid"]
        failures = (
            f"{failed} failed ({f.percent(failed / s.num_tried)})" if failed else "none failed"
        )
        cards.append(Card(f"{s.num_kept} of {s.num_tried}", "ideas kept", failures))
    if s.gpu_seconds:
        cards.append(
            Card(
                f.duration(s.gpu_seconds),
                f"{device_word(session)} time",
                f"{f.percent(s.busy_share)} busy" if s.busy_share is not None else "",
            )
        )
    if s.usage.num_calls:
        price = f.money(s.usage.cost_usd) if s.usage.cost_usd is not None else "unknown"
        cards.append(Card(price, "for proposals", f"{f.count(s.usage.tokens_in)} tokens in"))
    return cards


def numbers(found: Sequence[int], most: int = 10) -> str:
    """Return `#1, #2 and 3 more`."""
    text = ", ".join(f"#{n}" for n in found[:most])
    return text + (f" and {len(found) - most} more" if len(found) > most else "")


def plot_alt(s: Summary) -> str:
    """Return what a reader who does not see the staircase should know of it."""
    if s.baseline_bpb is None:
        return "Nothing has been measured yet"
    text = f"Staircase of the best validation bits per byte over {s.num_tried} experiments"
    if s.num_kept:
        word = "rises" if s.delta is not None and s.delta > 0 else "falls"
        steps = "1 kept step" if s.num_kept == 1 else f"{s.num_kept} kept steps"
        text += f": {f.bpb(s.baseline_bpb)} {word} to {f.bpb(s.best_bpb)} in {steps}"
    return text
