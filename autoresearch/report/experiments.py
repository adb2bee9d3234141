"""The experiments of a report: kept, discarded and failed ones, with their diffs."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from autoresearch.decision.confirmation import carried
from autoresearch.decision.scores import is_doubtful
from autoresearch.report.assets import Material
from autoresearch.types import Decision, Experiment, Reason, Session, Verdict
from autoresearch.ui import text as f
from autoresearch.ui.conclusion import difference
from autoresearch.ui.pages.confirmation import question, word_of
from autoresearch.ui.pages.diffs import kind_of, stats
from autoresearch.ui.summary import Summary


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
    """Posterior mean and central 90 %, as decided: the expected gain."""
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
    """With the 95 % interval."""
    validation: str
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


def rungs(s: Summary, material: Material) -> list[Rung]:
    """Return the kept changes, oldest first."""
    return [
        Rung(
            number=step.experiment.number,
            commit=step.experiment.commit[:12],
            change=_cut(step.experiment.description),
            hypothesis=_cut(step.experiment.hypothesis, 1200),
            theme=_cut(step.experiment.theme, 80),
            delta=f.delta(step.delta, s.digits),
            cumulative=f.delta(step.cumulative, s.digits),
            p_real=f.probability(step.experiment.p_real),
            expected=_expected(step.experiment.decision, s.digits),
            worth=difference(step.left_out).partition(" ")[0] if step.left_out else "",
            worth_interval=difference(step.left_out) if step.left_out else "",
            carries=carried(step.left_out) if step.left_out else "",
            memory=f.memory(step.experiment.peak_memory_mb),
            lines=_lines(step.experiment),
            is_doubtful=is_doubtful(step.experiment),
            diff=diff_lines(material.diffs.get(step.experiment.number, "")),
        )
        for step in s.steps
    ]


def _lines(e: Experiment) -> str:
    return f.NONE if e.is_foreign else f"+{e.lines_added} -{e.lines_removed}"


def _expected(decision: Decision | None, digits: int) -> str:
    if decision is None or decision.estimate is None:
        return ""
    text = f.delta(decision.estimate, digits)
    if decision.low is not None and decision.high is not None:
        text += f", 90% in {f.delta(decision.low, digits)} to {f.delta(decision.high, digits)}"
    return text


def checks(s: Summary) -> list[Check]:
    """Return what was measured again on fresh seeds about the best: the headline, then other conditions."""
    found = [s.confirmation] if s.confirmation else []
    return [
        Check(
            question=f"#{c.candidate} {question(c)}",
            answer=word_of(c)[0],
            is_good=c.is_gain,
            delta=difference(c),
            validation=f.delta(c.validation_delta, f.decimals((c.high - c.low) / 2)),
            trials=f"{c.num_trials} x {f.duration(c.budget_seconds)}",
        )
        for c in (*found, *s.further)
    ]


def _cut(text: str, length: int = 240) -> str:
    """Return untrusted text as one clean line of bounded length; `show` and `--json` have all of it."""
    line = f.clean(text)
    return line if len(line) <= length else line[: length - 3].rstrip() + "..."


def theme_of(experiment: Experiment) -> str:
    """Return the theme of an experiment, or for a search the constants it set."""
    if theme := _cut(experiment.theme, 80):
        return theme
    if experiment.parameters:
        return ", ".join(f.clean(name) for name in sorted(experiment.parameters)[:3])
    return "no theme"


def themes(session: Session) -> list[Theme]:
    """Return what did not help by theme, the one tried most first."""
    groups: dict[str, list[Experiment]] = defaultdict(list)
    for e in session.experiments:
        if e.verdict is not None and e.number != 0:
            groups[theme_of(e).casefold()].append(e)
    themes = []
    for members in groups.values():
        missed = [e for e in members if e.verdict is Verdict.DISCARD]
        if not missed:
            continue
        sign = session.metric.sign
        nearest = min(missed, key=lambda e: (_delta(e) is None, sign * (_delta(e) or 0.0)))
        themes.append(
            Theme(
                name=theme_of(members[0]),
                num=len(members),
                num_kept=sum(e.verdict is Verdict.KEEP for e in members),
                nearest=_miss(nearest) if _delta(nearest) is not None else None,
                misses=tuple(_miss(e) for e in missed),
                repeats=tuple(_repeats(members)),
            )
        )
    return sorted(themes, key=lambda t: (-t.num, t.name))


def _delta(e: Experiment) -> float | None:
    return e.decision.delta if e.decision else None


def _miss(e: Experiment) -> Miss:
    digits = f.decimals(e.decision.noise if e.decision else None)
    return Miss(e.number, _cut(e.description), f.delta(_delta(e), digits), _cut(e.reason, 60))


def _repeats(members: Sequence[Experiment]) -> list[str]:
    """Return descriptions that came back, and those that came back with other numbers (a search does nothing else)."""
    same: dict[str, list[Experiment]] = defaultdict(list)
    alike: dict[str, list[Experiment]] = defaultdict(list)
    for e in members:
        text = f.clean(e.description).casefold()
        same[text].append(e)
        if not e.parameters:
            alike[re.sub(r"[\d.,^e+-]+", "#", text)].append(e)
    found = [("tried {} times", group) for group in same.values() if len(group) > 1]
    found += [
        ("{} variants", group)
        for group in alike.values()
        if len({f.clean(e.description).casefold() for e in group}) > 2
    ]
    return [
        f"{words.format(len(group))}: {f.fit(f.clean(group[0].description), 90)}"
        for words, group in found
    ]


def _seconds(members: Sequence[Experiment]) -> list[float]:
    return [e.total_seconds for e in members if e.total_seconds is not None]


def failures(session: Session, material: Material) -> list[Failure]:
    """Return crashes and broken rules by reason, the most frequent first."""
    groups: dict[tuple[str, str], list[Experiment]] = defaultdict(list)
    for e in session.experiments:
        if e.verdict in {Verdict.CRASH, Verdict.INVALID}:
            groups[e.verdict.value, e.reason].append(e)
    failures = []
    for (verdict, reason), members in groups.items():
        if verdict == Verdict.CRASH and reason == Reason.SLOW:
            verdict, reason = "stopped", "too slow"
        logged = [e for e in members if material.log_tails.get(e.number)]
        last = logged[-1] if logged else members[-1]
        tail = f.clean(material.log_tails.get(last.number, ""), lines=True).strip("\n")
        details = [t.result.detail for e in reversed(members) for t in e.trials if t.result.detail]
        failures.append(
            Failure(
                verdict=verdict,
                reason=f.clean(reason) or "unknown",
                num=len(members),
                lost=f.duration(sum(took) if (took := _seconds(members)) else None),
                numbers=f.numbers([e.number for e in members]),
                detail=f.clean(details[0]) if details else "",
                log_tail="\n".join(line[:300] for line in tail.split("\n")[-30:]),
                log_number=last.number,
            )
        )
    return sorted(failures, key=lambda x: -x.num)


MAX_DIFF_LINES = 400


def diff_lines(diff: str) -> tuple[DiffLine, ...]:
    """Return the lines of a diff with their kinds, cut after `MAX_DIFF_LINES`."""
    lines = f.clean(diff, lines=True).rstrip("\n").split("\n") if diff else []
    found = [DiffLine(line[:1000], kind_of(line)) for line in lines[:MAX_DIFF_LINES]]
    if len(lines) > MAX_DIFF_LINES:
        found.append(DiffLine(f"... {len(lines) - MAX_DIFF_LINES} more lines", "heading"))
    return tuple(found)


def net_stat(diff: str) -> str:
    """Return `+3 -1 lines in train.py`."""
    files = stats(diff)
    if not files:
        return ""
    added, removed = sum(x.added for x in files), sum(x.removed for x in files)
    return f"+{added} -{removed} lines in {', '.join(f.clean(x.path) for x in files)}"
