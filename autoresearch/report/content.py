"""What a report says, as plain values and sentences for the template and the Markdown writer."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

from autoresearch.events import parse_time
from autoresearch.record.refs import FETCH
from autoresearch.report import experiments
from autoresearch.report.assets import Material
from autoresearch.report.experiments import DiffLine, diff_lines, net_stat
from autoresearch.types import Session
from autoresearch.ui import text as f
from autoresearch.ui.conclusion import Conclusion, difference, subject
from autoresearch.ui.pages.confirmation import question, word_of
from autoresearch.ui.pages.overview import (
    STATES,
    STOP_WORDS,
    device_word,
    left_out_text,
    real_text,
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
ANSWERS = {"confirmed": "holds", "not confirmed": "is not certain", "worse": "turns into a loss"}


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
        """What was trained, else the tag."""
        return subject(self.session) or self.tag

    @property
    def tag(self) -> str:
        """The name of the session."""
        return f.clean(self.session.tag)

    @property
    def headline(self) -> Conclusion:
        """The verdict, for a page that may say +-."""
        found = self.summary.conclusion
        return replace(found, text=found.text.replace("+-", "\u00b1"))

    @property
    def subtitle(self) -> tuple[str, ...]:
        """When, how long, on what, by whom."""
        session, parts = self.session, [f"session {self.tag}"] * (self.title != self.tag)
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
        """What follows the headline, in sentences: validation, other conditions, which changes did it, what next."""
        s = self.summary
        if s.best is None or s.best.number == 0 or self.headline.word == "NOT COMPARABLE":
            return ()
        sentences = [*_validation(s), *_further(s), *_causes(s)]
        if not self.has_worth and (text := real_text(s)):
            sentences.append(f"Of the kept changes {text}." if s.num_kept > 1 else f"It is {text}.")
        if not s.confirmation and s.trajectory in {"plateau", "stuck"}:
            sentences.append(f"{f.capital(trend_text(s))}.")
        return tuple(sentence.replace("+-", "\u00b1") for sentence in sentences)

    @property
    def cards(self) -> list[Card]:
        """The numbers below the headline."""
        s, cards = self.summary, []
        if s.baseline_score is not None and s.best is not None and s.best.number != 0:
            note = f"best {f.clean(s.metric.name)}, from {f.score(s.baseline_score, s.digits)}"
            cards.append(Card(f.score(s.best_score, s.digits), note))
        elif s.baseline_score is not None:
            cards.append(
                Card(
                    f.score(s.baseline_score, s.digits), f"{f.clean(s.metric.name)} of the baseline"
                )
            )
        if s.num_tried:
            failed = s.num_by_verdict["crash"] + s.num_by_verdict["invalid"]
            note = f"{failed} failed ({f.percent(failed / s.num_tried)})" if failed else ""
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
            f"{FETCH}    # in a clone, where the session was pushed",
            f"git switch {f.clean(session.branch)}",
            "autoresearch prepare",
            "autoresearch try --seed 1        # one judged trial of the best",
            f"autoresearch log --tag {self.tag}",
        ]

    @property
    def notes(self) -> list[tuple[str, str, str]]:
        """Time, author and text of what was noted."""
        return [(f.clock(n.at), n.author, f.clean(n.text)) for n in self.session.notes]

    @property
    def plot_alt(self) -> str:
        """What a reader who does not see the staircase should know of it."""
        s = self.summary
        if s.baseline_score is None:
            return "Nothing has been measured yet"
        text = f"Staircase of the best {f.clean(s.metric.title)} over {s.num_tried} experiments"
        if s.num_kept:
            steps = "1 kept step" if s.num_kept == 1 else f"{s.num_kept} kept steps"
            word = "rises" if s.delta is not None and s.delta > 0 else "falls"
            values = (f.score(value, s.digits) for value in (s.baseline_score, s.best_score))
            way = f" {word} to ".join(values) + f" in {steps}"
            text += f": {way if s.delta is not None else f'{steps}, under different setups'}"
        return text


def _validation(s: Summary) -> list[str]:
    """Return what validation, which was selected on, says of the gain; empty where a sum would mean nothing."""
    if s.delta is None:
        return []
    text = (
        f"On validation, which the keeps were chosen by, #{s.best.number if s.best else 0} measures"
    )
    text += f" {f.delta(s.delta, s.digits)} ({f.share(s.relative)}) against the baseline"
    if s.noise:
        text += f"; the noise between trials of the same code is {s.noise:.{s.digits}f}"
    return [f"{text}."]


def _further(s: Summary) -> list[str]:
    """Return what became of the gain with longer training, in a larger model and the like."""
    found = [f"{question(c)} it {ANSWERS[word_of(c)[0]]} ({difference(c)})" for c in s.further]
    return [f"{f.capital('; '.join(found))}."] if found else []


def _causes(s: Summary) -> list[str]:
    """Return which changes did it: by leaving each out, else by what was measured when they were kept."""
    if text := left_out_text(s):
        return [f"{f.capital(text)}."]
    gains = [step for step in s.steps if step.delta is not None and s.metric.sign * step.delta < 0]
    gains.sort(key=lambda step: s.metric.sign * (step.delta or 0.0))
    if len(gains) < 2:
        return []
    named = [
        f"#{g.experiment.number} {f.fit(f.clean(g.experiment.description), 60)} ({f.delta(g.delta, s.digits)})"
        for g in gains[:3]
    ]
    return ["The largest gains: " + "; ".join(named) + "."]
