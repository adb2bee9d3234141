"""Writes a session into a real run directory, event by event, with the dates it has."""

from dataclasses import asdict
from pathlib import Path

import autoresearch.record.record as module
from autoresearch.events import Confirmed, SessionEnded, SessionStarted
from autoresearch.paths import RunDirectory
from autoresearch.record.record import Record
from autoresearch.types import Proposal, Session, Verdict

HEAD = '''"""Train a small GPT."""

from autoresearch.trial import Trial

'''


def program(values: dict[str, int]) -> str:
    """Return a train.py of constants, far enough apart for clean diffs."""
    return HEAD + "".join(f"{name} = {value}\n\n\n\n" for name, value in values.items())


DATED = ("TrialJudged", "VerdictGiven")


def _dated(event_class):
    """Return a maker of events that are dated by the record's clock."""
    return lambda **fields: event_class(**{"at": module.now(), **fields})


def replay(session: Session, root: Path, *, until: int | None = None) -> Record:
    """Return the record of a run directory that holds `session`."""
    root.mkdir(parents=True, exist_ok=True)
    values = {f"KNOB_{i:02d}": i for i in range(12)}
    (root / "train.py").write_text(program(values))
    (root / "program.md").write_text("# Find a better GPT\n")
    (root / "autoresearch.toml").write_text("")
    (root / ".gitignore").write_text(".autoresearch/\nresults.tsv\n")
    paths = ["train.py", "program.md", "autoresearch.toml", ".gitignore"]
    original = {name: getattr(module, name) for name in ("now", *DATED)}
    try:
        for name in DATED:
            setattr(module, name, _dated(original[name]))
        module.now = lambda: session.started_at
        record = Record.create(RunDirectory(root), session.tag, paths)
        _write(record, session, values, until)
    finally:
        for name, value in original.items():
            setattr(module, name, value)
    return record


def _write(record: Record, session: Session, values: dict[str, int], until: int | None) -> None:
    record.append(
        SessionStarted(
            at=session.started_at, tag=session.tag, tip=record.tip(), setup=vars(session.setup),
            seed=session.seed, proposer=session.proposer, model=session.model,
            sandbox=session.sandbox, is_unsafe=session.is_unsafe,
            metric=session.metric, trivial_score=session.trivial_score, hardware=session.hardware, data=session.data,
            versions=session.versions,
        )
    )  # fmt: skip
    for e in session.experiments[:until]:
        changed = {**values, f"KNOB_{e.number % 12:02d}": 100 + e.number} if e.number else values
        module.now = lambda at=e.started_at: at
        record.propose(
            Proposal(
                description=e.description, files={"train.py": program(changed)},
                parent=record.tip(), proposer=e.proposer, hypothesis=e.hypothesis,
                theme=e.theme, usage=e.usage,
                attachments={"prompt.md": b"Propose one change", "reply.md": b"Here it is"},
            ),
            e.number, b"# Find a better GPT\n",
        )  # fmt: skip
        for t in e.trials:
            record.record_trial(e.number, t.result, setup=t.setup, started_at=t.started_at)
        if e.verdict is None:
            continue
        module.now = lambda at=e.judged_at: at
        record.judge(e.number, e.verdict, e.reason, e.decision, e.setup)
        if e.verdict is Verdict.KEEP:
            values.update(changed)
    for c in session.confirmations:
        record.append(Confirmed(at=c.at, confirmation=asdict(c)))
    if session.state == "finished":
        busy: dict[str, float] = {b.kind: b.seconds for b in session.busy}
        record.append(
            SessionEnded(
                at=session.ended_at, reason=session.stop_reason,
                wall_seconds=session.wall_seconds, busy=busy,
            )
        )  # fmt: skip
