"""Experiments as commits: files put on a parent, carried over to another parent, and the commit message."""

import re
import textwrap
from collections.abc import Iterator, Mapping

from autoresearch.errors import WorkError
from autoresearch.events import (
    Abandoned,
    Alerted,
    Confirmed,
    Event,
    Noted,
    Proposed,
    SessionEnded,
    Spent,
    TrialJudged,
    VerdictGiven,
)
from autoresearch.paths import is_safe
from autoresearch.record.git import EXECUTABLE, REGULAR, Entry, Repository
from autoresearch.types import Decision, Experiment, Proposal, Session
from autoresearch.util.stats import decimals
from autoresearch.util.text import clean_line, clean_text, redact


def write_candidate(repository: Repository, proposal: Proposal, number: int, at: str) -> str:
    """Store a proposal's commit and return its sha; no ref moves.

    Returns:
        The sha; where nothing changes the parent, or "" for a proposer that was to change something.

    Raises:
        WorkError: a path leads out of the run directory.
    """
    entries = repository.entries(proposal.parent)
    changed = dict(entries)
    for path, text in proposal.files.items():
        if not is_safe(path):
            raise WorkError(
                f"`{clean_line(path)}` is no path inside the run directory",
                hint="name files relative to it, as `[task] editable` does",
                kind="record",
            )
        is_executable = path in entries and entries[path].mode == EXECUTABLE
        blob = repository.write_blob(text.encode("utf-8", "replace"))
        changed[path] = Entry(EXECUTABLE if is_executable else REGULAR, blob)
    if changed == entries:
        return proposal.parent if proposal.proposer in ("baseline", "human") else ""
    tree = repository.write_tree(changed)
    message = _join(
        _subject(proposal.description or f"experiment {number}", f" (#{number})"),
        _body(proposal.hypothesis),
        _trailers(number, proposer=proposal.proposer, parent=proposal.parent[:12]),
    )
    return repository.write_commit(tree, [proposal.parent], message, at)


def carry(
    repository: Repository, files: Mapping[str, str], base: str, onto: str
) -> dict[str, str] | None:
    """Return a change made against commit `base` as it would be against `onto`, None if they collide."""
    if base == onto:
        return dict(files)
    carried = {}
    for path, text in files.items():
        old = repository.file_at(base, path) or b""
        new = repository.file_at(onto, path) or b""
        merged = repository.merge3(old, new, text.encode("utf-8", "replace"))
        if merged is None:
            return None
        carried[path] = merged.decode("utf-8", "replace")
    return carried


_SUBJECT = 72
_MAGIC = re.compile(
    r"^(?=---|diff |Index: |\*\*\* |@@ |#|>8|[A-Za-z][A-Za-z0-9-]*:|\(cherry picked)", re.MULTILINE
)


def kept_message(
    experiment: Experiment,
    session: Session,
    reason: str,
    decision: Decision | None,
    setup: str,
) -> str:
    """Return the message of a kept experiment's commit; the best of `session` is the reference."""
    score, name = experiment.score, session.metric.name
    if decision is not None and decision.level is not None:
        score = decision.level
    outcome = []
    if score is not None:
        sentence = f"{name} {score:.6f}"
        if decision is not None and decision.delta is not None:
            sentence += f", {decision.delta:+.6f} against #{session.best}"
        if decision is not None and decision.p_real is not None:
            sentence += f", better with probability {decision.p_real:.2f}"
        num = sum(t.result.ok and not t.confirmation for t in experiment.trials)
        outcome.append(f"{sentence} ({num} trial{'s' if num != 1 else ''}).")
    if decision is not None and decision.explanation:
        outcome.append(_body(decision.explanation))
    facts = f"#{experiment.number}"
    if decision is not None and decision.delta is not None:
        facts += f", {decision.delta:+.{decimals(decision.noise)}f}"
    return _join(
        _subject(experiment.description or f"experiment {experiment.number}", f" ({facts})"),
        _body(experiment.hypothesis),
        "\n".join(outcome),
        _trailers(
            experiment.number,
            verdict=f"keep ({reason})" if reason else "keep",
            proposer=experiment.proposer,
            setup=setup,
            **{name: f"{score:.6f}" if score is not None else ""},
        ),
    )


def revert_message(description: str, numbers: list[int], to: str) -> str:
    """Return the message of a commit that undoes experiments."""
    names = ", ".join(f"#{n}" for n in numbers) or "nothing that stands"
    body = f"Returns the files to {to}; undone: {names}." if to else f"Undoes experiment {names}."
    return _join(_subject(description), body, f"Autoresearch-Reverts: {names}")


def event_message(event: Event, line: str) -> str:
    """Return the message of an event's commit: a subject for readers of git, then the event as one line of JSON."""
    subject = " ".join(_words(event)).replace(" : ", ": ")
    return f"{_subject(subject)}\n\n{line}\n"


def _words(event: Event) -> Iterator[str]:
    """Yield `#4`, `keep`, `-0.002890`."""
    number = getattr(event, "number", None)
    if number is not None:
        yield f"#{number}"
    yield {"session_started": "session started", "session_ended": "session ended"}.get(
        event.type, event.type
    )
    if isinstance(event, Proposed):
        yield f": {event.description}"
    elif isinstance(event, TrialJudged):
        yield f"{event.index + 1} {event.result.get('outcome')} {event.result.get('reason') or ''}"
        yield _figure(event.result.get("score"), ".6f")
    elif isinstance(event, VerdictGiven):
        yield f"{event.verdict} {event.reason}".strip()
        yield _figure(event.decision.get("delta"), "+.6f")
    elif isinstance(event, Confirmed):
        yield _figure(event.confirmation.get("delta"), "+.6f")
    elif isinstance(event, Alerted | Noted):
        yield f": {event.text}"
    elif isinstance(event, SessionEnded | Abandoned | Spent):
        yield f": {event.reason}"


def _figure(value: object, form: str) -> str:
    return format(value, form) if isinstance(value, float) else ""


def _subject(text: str, end: str = "") -> str:
    line = clean_line(redact(text), 1000)
    if len(line) + len(end) > _SUBJECT:
        line = line[: _SUBJECT - 3 - len(end)].rsplit(" ", 1)[0] + "..."
    return (_MAGIC.sub(" ", line).strip() or "change") + end


def _body(text: str) -> str:
    paragraphs = []
    for line in clean_text(redact(text), 4000).split("\n"):
        paragraphs.extend(textwrap.wrap(line, 88, break_on_hyphens=False) or [""])
    return _MAGIC.sub("  ", "\n".join(paragraphs).strip("\n"))


def _trailers(number: int, **values: str) -> str:
    lines = [f"Autoresearch-Experiment: {number}"]
    for name, value in values.items():
        if value:
            lines.append(f"Autoresearch-{name.replace('_', '-').title()}: {clean_line(value, 120)}")
    return "\n".join(lines)


def _join(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
