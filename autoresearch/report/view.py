"""What a report says, as plain values: the template and the Markdown writer only arrange it."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from autoresearch.lab.summary import (
    Summary,
    is_doubtful,
    p_real,
    peak_memory_mb,
    summarize,
    total_seconds,
)
from autoresearch.report.material import Material
from autoresearch.types import Experiment, Session, Verdict
from autoresearch.ui import format as f
from autoresearch.ui.diffs import stats
from autoresearch.ui.overview import STOP_WORDS, device_word

MAX_DIFF_LINES = 400
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
    times_noise: str
    memory: str
    lines: str
    is_doubtful: bool
    diff: tuple[DiffLine, ...]


@dataclass(frozen=True)
class Miss:
    """One experiment that was not kept."""

    number: int
    change: str
    delta: str
    reason: str


@dataclass(frozen=True)
class Theme:
    """What was tried in vain under one theme."""

    name: str
    num: int
    num_kept: int
    nearest: Miss | None
    misses: tuple[Miss, ...]
    repeats: tuple[str, ...]
    """`weight decay 0.2: tried 4 times`."""


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
    themes: tuple[Theme, ...]
    failures: tuple[Failure, ...]
    night: tuple[Slice, ...]
    spend: tuple[str, ...]
    constants: tuple[tuple[str, str, str], ...]
    net_diff: tuple[DiffLine, ...]
    net_stat: str
    facts: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    notes: tuple[tuple[str, str, str], ...]
    made_at: str
    is_running: bool = False
    num_kept: int = 0
    plot_alt: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def build(
    session: Session, material: Material | None = None, now: datetime | None = None
) -> tuple[View, Summary]:
    """Return the view of a session and the summary it was made from."""
    now = now or datetime.now(UTC)
    material = material or Material()
    s = summarize(session, now)
    view = View(
        title=f.clean(session.tag),
        subtitle=_subtitle(session, s),
        state=_state(session),
        verdict=tuple(_verdict(s)),
        cards=tuple(_cards(session, s)),
        marks=tuple(f.clean(m) for m in s.marks),
        alerts=tuple((f.clean(a.text), f.clean(a.command)) for a in s.alerts),
        rungs=tuple(_rungs(s, material)),
        themes=tuple(_themes(session)),
        failures=tuple(_failures(session, material)),
        night=tuple(_night(s)),
        spend=tuple(_spend(session, s)),
        constants=material.constants,
        net_diff=diff_lines(material.net_diff),
        net_stat=_net_stat(material.net_diff),
        facts=tuple(_facts(session)),
        commands=tuple(_commands(session)),
        notes=tuple((f.clock(n.at), n.author, f.clean(n.text)) for n in session.notes),
        made_at=f"{now.astimezone():%Y-%m-%d %H:%M %Z}",
        is_running=session.state == "running",
        num_kept=s.num_kept,
        plot_alt=_plot_alt(s),
    )
    return view, s


def _subtitle(session: Session, s: Summary) -> tuple[str, ...]:
    parts = []
    if session.started_at:
        end = f.clock(session.ended_at, now=f.parse_time(session.started_at))
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


def _state(session: Session) -> str:
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
    return text


def _verdict(s: Summary) -> list[str]:
    if s.baseline_bpb is None:
        return ["Nothing has been measured yet."]
    if s.best is None or s.best.number == 0:
        tried = f"{s.num_tried} experiments" if s.num_tried else "nothing else"
        return [
            f"No improvement yet: the baseline stands at {f.bpb(s.baseline_bpb)}; tried: {tried}."
        ]
    sentences = []
    if s.delta is None:
        sentences.append(
            "Baseline and best were measured under different setups, so their difference means nothing."
        )
    else:
        times = f", {-s.delta / s.noise:.0f} times the noise" if s.noise and s.delta < 0 else ""
        word = "better" if s.delta < 0 else "worse"
        sentences.append(
            f"Measured {abs(s.delta):.6f} bits per byte {word} than the baseline"
            f" ({f.percent(s.relative, sign=True, digits=2)}{times}): best is #{s.best.number}."
        )
    c = s.confirmation
    if c is not None:
        held = "holds" if c.high < 0 else "is not certain"
        sentences.append(
            f"On {c.num_trials} fresh seeds each and the {c.split} split, which nothing was selected on,"
            f" the gain {held}: {f.delta(c.delta)}, 95% interval {f.delta(c.low)} to {f.delta(c.high)}."
        )
    else:
        sentences.append(
            "Unconfirmed: best and baseline were not measured again on fresh seeds and the test split."
        )
    if s.num_kept == 1 and s.num_real is not None:
        sentences.append(
            f"One change was kept; it is an improvement with probability {s.num_real:.2f}."
        )
    elif s.num_kept and s.num_real is not None:
        doubtful = ""
        if s.doubtful:
            doubtful = f"; {len(s.doubtful)} may be luck ({_numbers(s.doubtful)})"
        sentences.append(
            f"Of {s.num_kept} kept changes about {s.num_real:.0f} are expected to be real{doubtful}."
        )
    trend = {
        "plateau": f"Plateau: no convincing gain in the last {s.num_since_gain} experiments.",
        "stuck": f"No convincing gain in {s.num_since_gain} experiments.",
    }.get(s.trajectory)
    return [*sentences, trend] if trend else sentences


def _numbers(numbers: Sequence[int], most: int = 10) -> str:
    text = ", ".join(f"#{n}" for n in numbers[:most])
    return text + (f" and {len(numbers) - most} more" if len(numbers) > most else "")


def _cards(session: Session, s: Summary) -> list[Card]:
    cards = []
    if s.baseline_bpb is not None and s.best is not None and s.best.number != 0:
        cards.append(
            Card(f.bpb(s.best_bpb), "val_bpb of the best", f"baseline {f.bpb(s.baseline_bpb)}")
        )
        if s.relative is not None:
            cards.append(
                Card(
                    f.percent(s.relative, sign=True, digits=2),
                    "against the baseline",
                    f.delta(s.delta),
                )
            )
    elif s.baseline_bpb is not None:
        cards.append(Card(f.bpb(s.baseline_bpb), "val_bpb of the baseline"))
    if s.confirmation is not None:
        word = "confirmed" if s.confirmation.high < 0 else "not certain"
        cards.append(Card(f.delta(s.confirmation.delta), f"{word} on the test split"))
    if s.num_tried:
        cards.append(
            Card(f"{s.num_kept} of {s.num_tried}", "kept", f"keep rate {f.percent(s.keep_rate)}")
        )
        failed = s.num_by_verdict["crash"] + s.num_by_verdict["invalid"]
        cards.append(
            Card(
                f.percent(failed / s.num_tried, digits=1),
                "crashed or invalid",
                f"{failed} experiments",
            )
        )
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


def _rungs(s: Summary, material: Material) -> list[Rung]:
    return [
        Rung(
            number=step.experiment.number,
            commit=step.experiment.commit[:12],
            change=_cut(step.experiment.description),
            hypothesis=_cut(step.experiment.hypothesis, 1200),
            theme=_cut(step.experiment.theme, 80),
            delta=f.delta(step.delta),
            cumulative=f.delta(step.cumulative),
            p_real=f.probability(p_real(step.experiment)),
            times_noise=f.NONE if step.times_noise is None else f"{step.times_noise:.1f}",
            memory=f.memory(peak_memory_mb(step.experiment)),
            lines=f"+{step.experiment.lines_added} -{step.experiment.lines_removed}",
            is_doubtful=is_doubtful(step.experiment),
            diff=diff_lines(material.diffs.get(step.experiment.number, "")),
        )
        for step in s.steps
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


def _themes(session: Session) -> list[Theme]:
    groups: dict[str, list[Experiment]] = defaultdict(list)
    for e in session.experiments:
        if e.verdict is not None and e.number != 0:
            groups[theme_of(e).casefold()].append(e)
    themes = []
    for members in groups.values():
        missed = [e for e in members if e.verdict is Verdict.DISCARD]
        if not missed:
            continue
        nearest = min(missed, key=lambda e: (_delta(e) is None, _delta(e) or 0.0))
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
    return Miss(e.number, _cut(e.description), f.delta(_delta(e)), _cut(e.reason, 60))


def _repeats(members: Sequence[Experiment]) -> list[str]:
    """Return descriptions that came back: the same words, numbers apart."""
    by_words: dict[str, list[Experiment]] = defaultdict(list)
    for e in members:
        words = re.sub(r"[\d.,^e+-]+", "#", f.clean(e.description).casefold())
        by_words[words].append(e)
    return [
        f"{f.fit(f.clean(same[0].description), 90)}: tried {len(same)} times"
        f" ({_numbers([e.number for e in same], 6)})"
        for same in by_words.values()
        if len(same) > 1
    ]


def _failures(session: Session, material: Material) -> list[Failure]:
    groups: dict[tuple[str, str], list[Experiment]] = defaultdict(list)
    for e in session.experiments:
        if e.verdict in {Verdict.CRASH, Verdict.INVALID}:
            groups[(e.verdict.value, e.reason)].append(e)
    failures = []
    for (verdict, reason), members in groups.items():
        logged = [e for e in members if material.log_tails.get(e.number)]
        last = logged[-1] if logged else members[-1]
        tail = f.clean(material.log_tails.get(last.number, ""), lines=True).strip("\n")
        details = [t.result.detail for e in reversed(members) for t in e.trials if t.result.detail]
        failures.append(
            Failure(
                verdict=verdict,
                reason=f.clean(reason) or "unknown",
                num=len(members),
                lost=f.duration(sum(total_seconds(e) or 0.0 for e in members)),
                numbers=_numbers([e.number for e in members]),
                detail=f.clean(details[0]) if details else "",
                log_tail="\n".join(line[:300] for line in tail.split("\n")[-30:]),
                log_number=last.number,
            )
        )
    return sorted(failures, key=lambda x: -x.num)


def _night(s: Summary) -> list[Slice]:
    parts = {kind: value for kind, value in s.seconds_by_kind.items() if value > 0}
    known = sum(parts.values())
    total = max(s.wall_seconds, known)
    if total <= 0:
        return []
    if total - known > 0.005 * total:
        parts["idle"] = total - known
    order = list(KIND_WORDS)
    return [
        Slice(kind, KIND_WORDS.get(kind, kind), f.duration(parts[kind]), 100 * parts[kind] / total)
        for kind in sorted(parts, key=lambda k: order.index(k) if k in order else 99)
    ]


def _spend(session: Session, s: Summary) -> list[str]:
    lines = []
    if s.gpu_seconds and s.wall_seconds:
        lines.append(
            f"{device_word(session)}: {f.duration(s.gpu_seconds)} of {f.duration(s.wall_seconds)}"
            f" ({f.percent(s.busy_share)} busy)"
        )
    u = s.usage
    if u.num_calls:
        price = f.money(u.cost_usd) if u.cost_usd is not None else "price unknown"
        lines.append(
            f"Proposals: {price}, {u.num_calls} calls, {f.count(u.tokens_in)} tokens in"
            f" ({f.count(u.tokens_cached)} cached), {f.count(u.tokens_out)} out"
        )
    lost = sum(s.lost_seconds.values())
    if lost:
        lines.append(f"Lost to crashes and broken rules: {f.duration(lost)}")
    return lines


def diff_lines(diff: str) -> tuple[DiffLine, ...]:
    """Return the lines of a diff with their kinds, cut after `MAX_DIFF_LINES`."""
    kinds = (
        (("diff ", "index ", "--- ", "+++ ", "new file", "deleted file"), "heading"),
        (("@@",), "place"),
        (("+",), "added"),
        (("-",), "removed"),
    )
    lines = f.clean(diff, lines=True).rstrip("\n").split("\n") if diff else []
    found = [
        DiffLine(line[:1000], next((kind for starts, kind in kinds if line.startswith(starts)), ""))
        for line in lines[:MAX_DIFF_LINES]
    ]
    if len(lines) > MAX_DIFF_LINES:
        found.append(DiffLine(f"... {len(lines) - MAX_DIFF_LINES} more lines", "heading"))
    return tuple(found)


def _net_stat(diff: str) -> str:
    files = stats(diff)
    if not files:
        return ""
    added, removed = sum(x.added for x in files), sum(x.removed for x in files)
    return f"+{added} -{removed} lines in {', '.join(f.clean(x.path) for x in files)}"


def _facts(session: Session) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = [("branch", session.branch), ("tip", session.tip)]
    facts += [("journal", session.journal), ("seed", str(session.seed))]
    if session.setup:
        facts.append(("setup", session.setup.key))
        facts += [(k, str(v)) for k, v in vars(session.setup).items() if v not in ("", None)]
    facts += [
        ("sandbox", session.sandbox),
        ("proposer", session.proposer),
        ("model", session.model),
    ]
    for name, table in (
        ("data", session.data),
        ("hardware", session.hardware),
        ("version", session.versions),
        ("config", session.config),
    ):
        facts += [(f"{name} {key}", str(value)) for key, value in table.items()]
    return [(f.clean(k), f.clean(v)[:400]) for k, v in facts if v not in ("", "None")]


def _commands(session: Session) -> list[str]:
    branch, tag = f.clean(session.branch), f.clean(session.tag)
    return [
        "git fetch origin 'refs/autoresearch/*:refs/autoresearch/*'",
        f"git switch {branch}",
        "autoresearch prepare",
        "autoresearch try --seed 1        # one judged trial of the best",
        f"autoresearch log --tag {tag}",
    ]


def _plot_alt(s: Summary) -> str:
    if s.baseline_bpb is None:
        return "Nothing has been measured yet"
    text = f"Staircase of the best validation bits per byte over {s.num_tried} experiments"
    if s.num_kept:
        text += f": {f.bpb(s.baseline_bpb)} falls to {f.bpb(s.best_bpb)} in {s.num_kept} kept steps"
    return text
