"""What a report says, as plain values and sentences for the template and the Markdown writer."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from autoresearch.events import parse_time
from autoresearch.record.refs import FETCH
from autoresearch.report import experiments
from autoresearch.report.assets import Material
from autoresearch.report.experiments import DiffLine, diff_lines, net_stat
from autoresearch.types import Session
from autoresearch.ui import text as f
from autoresearch.ui.pages.confirmation import question, word_of
from autoresearch.ui.pages.overview import (
    STATES,
    STOP_WORDS,
    device_word,
    left_out_text,
    spend_parts,
    trend_text,
)
from autoresearch.ui.summary import Summary, summarize

KIND_WORDS = {
    "train": "training",
    "startup": "start-up",
    "judge": "judging",
    "confirm": "confirmation",
    "propose": "waiting for the proposer",
    "wait": "waiting",
    "other": "other",
    "idle": "not accounted for",
}
ANSWERS = {
    "confirmed": ("Confirmed: the gain holds", "holds"),
    "not confirmed": ("Not confirmed: the gain is not certain", "is not certain"),
    "worse": ("Not confirmed: the best is worse than the baseline", "turns into a loss"),
}


@dataclass(frozen=True)
class Card:
    """One number of the headline."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Slice:
    """A share of the night."""

    kind: str
    label: str
    time: str
    percent: float


def build(
    session: Session, material: Material | None = None, now: datetime | None = None
) -> "View":
    """Return the view of a session, with what its record holds in files."""
    now = now or datetime.now(UTC)
    return View(session, summarize(session, now), material or Material(), now)


@dataclass(frozen=True)
class View:
    """Everything a report shows, in its order."""

    session: Session
    summary: Summary
    material: Material
    now: datetime

    @property
    def title(self) -> str:
        """The tag."""
        return f.clean(self.session.tag)

    @property
    def subtitle(self) -> tuple[str, ...]:
        """When, how long, on what, by whom."""
        session, parts = self.session, []
        if session.started_at:
            began = f.clock(session.started_at)
            end = f.clock(session.ended_at, now=parse_time(session.started_at))
            parts.append(f"{began} to {end}" if session.ended_at else f"since {began}")
        if self.summary.wall_seconds:
            parts.append(f.duration(self.summary.wall_seconds))
        if session.setup:
            parts += [f.clean(session.setup.gpu), f"{session.setup.budget_seconds:g} s per trial"]
        parts.append(f.clean(session.model or session.proposer))
        return tuple(p for p in parts if p)

    @property
    def state(self) -> str:
        """Whether it runs, or why it stopped."""
        session, running = self.session, self.summary.running
        text = STATES[session.state][0]
        if session.state == "running" and running:
            return f"{text} #{running.number}: {f.fit(f.clean(running.description), 60)}"
        reason = f.clean(session.stop_reason)
        is_over = reason and session.state not in {"new", "running"}
        return f"{text}: {STOP_WORDS.get(reason, reason)}" if is_over else text

    @cached_property
    def verdict(self) -> tuple[str, ...]:
        """The answers in sentences: how much better, is it real, what did it, is more to be expected."""
        s = self.summary
        if s.baseline_bpb is None:
            return ("Nothing has been measured yet.",)
        if s.best is None or s.best.number == 0:
            tried = f"{s.num_tried} experiments" if s.num_tried else "nothing else"
            stands = f"the baseline stands at {f.bpb(s.baseline_bpb)}"
            return (f"No improvement yet: {stands}; tried: {tried}.",)
        sentences = [_gain(s), *_reality(s), *_causes(s)]
        if s.num_kept == 1 and s.num_real is not None:
            sentences.append(
                f"One change was kept; it is an improvement with probability {s.num_real:.2f}."
            )
        elif s.num_kept and s.num_real is not None and not self.has_worth:
            doubtful = ""
            if s.doubtful:
                doubtful = f"; {len(s.doubtful)} may be luck ({f.numbers(s.doubtful, 6)})"
            sentences.append(
                f"Of {s.num_kept} kept changes {s.num_real:.1f} are expected to be real{doubtful}."
            )
        if s.trajectory in {"plateau", "stuck"}:
            sentences.append(f"{f.capital(trend_text(s))}.")
        return tuple(sentences)

    @property
    def cards(self) -> list[Card]:
        """The headline numbers."""
        s, cards = self.summary, []
        if s.baseline_bpb is not None and s.best is not None and s.best.number != 0:
            note = f"from {f.bpb(s.baseline_bpb)}" if s.delta is not None else "not comparable"
            cards.append(Card(f.bpb(s.best_bpb), "best val_bpb", note))
            if s.delta is not None:
                share = f"{f.percent(s.relative, sign=True, digits=2)} of the baseline"
                cards.append(Card(f.delta(s.delta), "on validation", share))
        elif s.baseline_bpb is not None:
            cards.append(Card(f.bpb(s.baseline_bpb), "val_bpb of the baseline"))
        if c := s.confirmation:
            gap = f"gap to validation {f.delta(c.gap)}" if c.gap is not None else ""
            cards.append(Card(f.delta(c.delta), f"{word_of(c)[0]} on the {c.split} split", gap))
        if s.num_tried:
            failed = s.num_by_verdict["crash"] + s.num_by_verdict["invalid"]
            share = f"{failed} failed ({f.percent(failed / s.num_tried)})"
            note = share if failed else "none failed"
            cards.append(Card(f"{s.num_kept} of {s.num_tried}", "ideas kept", note))
        if s.gpu_seconds:
            busy = f"{f.percent(s.busy_share)} busy" if s.busy_share is not None else ""
            device = device_word(self.session)
            cards.append(Card(f.duration(s.gpu_seconds), f"{device} time", busy))
        if s.usage.num_calls:
            price = f.money(s.usage.cost_usd) if s.usage.cost_usd is not None else "unknown"
            note = f"{s.usage.num_calls} calls, {f.count(s.usage.tokens_in)} tokens in"
            cards.append(Card(price, "for proposals", note))
        return cards

    @property
    def alerts(self) -> list[tuple[str, str]]:
        """What needs the user, and what to type about it."""
        return [(f.clean(a.text), f.clean(a.command)) for a in self.summary.alerts]

    @property
    def has_worth(self) -> bool:
        """Whether kept changes were left out one at a time."""
        return any(step.left_out for step in self.summary.steps)

    @cached_property
    def rungs(self) -> list[experiments.Rung]:
        """The kept changes, oldest first."""
        return experiments.rungs(self.summary, self.material)

    @cached_property
    def checks(self) -> list[experiments.Check]:
        """What was measured again on fresh seeds."""
        return experiments.checks(self.summary)

    @cached_property
    def themes(self) -> list[experiments.Theme]:
        """What did not help."""
        return experiments.themes(self.session)

    @cached_property
    def failures(self) -> list[experiments.Failure]:
        """What failed."""
        return experiments.failures(self.session, self.material)

    @cached_property
    def night(self) -> list[Slice]:
        """Where the time went; what no record accounts for is `idle`."""
        s = self.summary
        parts = {kind: value for kind, value in s.seconds_by_kind.items() if value >= 0.05}
        known = sum(parts.values())
        total = max(s.wall_seconds, known)
        if total - known > 0.005 * total:
            parts["idle"] = total - known
        order = list(KIND_WORDS)
        return [
            Slice(
                kind, KIND_WORDS.get(kind, kind), f.duration(parts[kind]), 100 * parts[kind] / total
            )
            for kind in sorted(parts, key=lambda k: order.index(k) if k in order else 99)
        ]

    @property
    def spend(self) -> list[str]:
        """What it cost, in time and money."""
        return [f.capital(part) for part in spend_parts(self.session, self.summary)]

    @cached_property
    def net_diff(self) -> tuple[DiffLine, ...]:
        """What changed from the baseline to the best."""
        return diff_lines(self.material.net_diff)

    @property
    def net_stat(self) -> str:
        """`+3 -1 lines in train.py`."""
        return net_stat(self.material.net_diff)

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Names and values of what the numbers rest on."""
        session = self.session
        names = ["branch", "tip", "journal", "seed", "sandbox", "proposer", "model"]
        facts = [(name, str(getattr(session, name))) for name in names]
        if session.setup:
            facts.append(("setup", session.setup.key))
            facts += [(k, str(v)) for k, v in vars(session.setup).items() if v]
        for name, table in (
            ("data", session.data),
            ("hardware", session.hardware),
            ("version", session.versions),
            ("config", session.config),
        ):
            facts += [(f"{name} {key}", str(value)) for key, value in table.items()]
        return [(f.clean(k), f.clean(v)[:400]) for k, v in facts if v not in ("", "None")]

    @property
    def commands(self) -> list[str]:
        """How to reproduce it; empty where there is nothing, or nothing here, to reproduce."""
        session = self.session
        if session.is_foreign or not session.experiments:
            return []
        return [
            FETCH,
            f"git switch {f.clean(session.branch)}",
            "autoresearch prepare",
            "autoresearch try --seed 1        # one judged trial of the best",
            f"autoresearch log --tag {self.title}",
        ]

    @property
    def notes(self) -> list[tuple[str, str, str]]:
        """Time, author and text of what was noted."""
        return [(f.clock(n.at), n.author, f.clean(n.text)) for n in self.session.notes]

    @property
    def plot_alt(self) -> str:
        """What a reader who does not see the staircase should know of it."""
        s = self.summary
        if s.baseline_bpb is None:
            return "Nothing has been measured yet"
        text = f"Staircase of the best validation bits per byte over {s.num_tried} experiments"
        if s.num_kept:
            steps = "1 kept step" if s.num_kept == 1 else f"{s.num_kept} kept steps"
            word = "rises" if s.delta is not None and s.delta > 0 else "falls"
            way = f"{f.bpb(s.baseline_bpb)} {word} to {f.bpb(s.best_bpb)} in {steps}"
            text += f": {way if s.delta is not None else f'{steps}, under different setups'}"
        return text


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
    found = [
        (
            f"{ANSWERS[word_of(c)[0]][0]} on the {c.split} split, which nothing was selected on, and"
            f" {c.num_trials} fresh seeds each: {f.delta(c.delta)}, 95% interval {f.delta(c.low)} to"
            f" {f.delta(c.high)}."
        )
    ]
    if c.is_alarm:
        found.append(
            f"The gain on validation does not carry over: {f.delta(c.validation_delta)} there once"
            f" luck is taken off, so {abs(c.gap or 0.0):.6f} of it is gone."
        )
    others = [
        f"{question(c)} it {ANSWERS[word_of(c)[0]][1]} ({f.delta(c.delta)})" for c in s.further
    ]
    return [*found, f"{f.capital('; '.join(others))}."] if others else found


def _causes(s: Summary) -> list[str]:
    """Return which changes did it: by leaving each out, else by what was measured when they were kept."""
    if text := left_out_text(s):
        return [f"{f.capital(text)}."]
    gains = [step for step in s.steps if step.delta is not None and step.delta < 0]
    gains.sort(key=lambda step: step.delta or 0.0)
    if len(gains) < 2:
        return []
    named = [
        f"#{g.experiment.number} {f.fit(f.clean(g.experiment.description), 60)} ({f.delta(g.delta)})"
        for g in gains[:3]
    ]
    return ["The largest gains: " + "; ".join(named) + "."]
