"""Makes the view of a report from a session and the files of its record."""

from datetime import UTC, datetime

from autoresearch.record.refs import FETCH
from autoresearch.report import content, experiments
from autoresearch.report.assets import Material
from autoresearch.report.content import Slice, View
from autoresearch.report.experiments import diff_lines, net_stat
from autoresearch.types import Session
from autoresearch.ui import text as f
from autoresearch.ui.pages.overview import device_word
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


def build(
    session: Session, material: Material | None = None, now: datetime | None = None
) -> tuple[View, Summary]:
    """Return the view of a session and the summary it was made from."""
    now = now or datetime.now(UTC)
    material = material or Material()
    s = summarize(session, now)
    view = View(
        title=f.clean(session.tag),
        subtitle=content.subtitle(session, s),
        state=content.state(session, s),
        verdict=tuple(content.verdict(s)),
        cards=tuple(content.cards(session, s)),
        marks=tuple(f.clean(m) for m in s.marks),
        alerts=tuple((f.clean(a.text), f.clean(a.command)) for a in s.alerts),
        rungs=tuple(experiments.rungs(s, material)),
        checks=tuple(experiments.checks(s)),
        themes=tuple(experiments.themes(session)),
        failures=tuple(experiments.failures(session, material)),
        night=tuple(_night(s)),
        spend=tuple(_spend(session, s)),
        constants=material.constants,
        net_diff=diff_lines(material.net_diff),
        net_stat=net_stat(material.net_diff),
        facts=tuple(_facts(session)),
        commands=tuple(_commands(session)) if session.experiments else (),
        notes=tuple((f.clock(n.at), n.author, f.clean(n.text)) for n in session.notes),
        made_at=f"{now.astimezone():%Y-%m-%d %H:%M %Z}",
        source="a results.tsv" if session.is_foreign else "the record in git",
        is_running=session.state == "running",
        is_measured=s.baseline_bpb is not None or s.num_tried > 0,
        num_kept=s.num_kept,
        has_worth=any(step.left_out for step in s.steps),
        is_confirmed=s.confirmation is not None and s.confirmation.is_gain,
        is_alarm=s.confirmation is not None and s.confirmation.is_alarm,
        has_noise=s.noise is not None,
        has_hours=any(e.judged_at for e in session.experiments),
        plot_alt=content.plot_alt(s),
    )
    return view, s


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
    if s.later_seconds >= 1:
        lines.append(f"Confirmations after the runs: {f.duration(s.later_seconds)}")
    lost = sum(s.lost_seconds.values())
    if lost:
        lines.append(f"Lost to crashes and broken rules: {f.duration(lost)}")
    return lines


def _facts(session: Session) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = [("branch", session.branch), ("tip", session.tip)]
    facts += [("journal", session.journal), ("seed", str(session.seed))]
    if session.setup:
        facts.append(("setup", session.setup.key))
        facts += [(k, str(v)) for k, v in vars(session.setup).items() if v]
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
    if session.is_foreign:
        return []
    branch, tag = f.clean(session.branch), f.clean(session.tag)
    return [
        FETCH,
        f"git switch {branch}",
        "autoresearch prepare",
        "autoresearch try --seed 1        # one judged trial of the best",
        f"autoresearch log --tag {tag}",
    ]
