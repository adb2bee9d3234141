"""A night without training, driven from the record as the loop does it: `python night_driver.py ROOT NUM`.

It may be killed at any instant and started again, and ends with the same record as a night nobody disturbed.
"""

import random
import sys
from pathlib import Path

from record_support import SETUP, TRAIN

from autoresearch.events import SessionEnded, SessionStarted
from autoresearch.lab.faults import reach
from autoresearch.lab.record import Record
from autoresearch.paths import RunDirectory
from autoresearch.types import Decision, Outcome, Proposal, TrialResult, Verdict

PATHS = ["train.py", "program.md", "autoresearch.toml", ".gitignore"]


def make(root: Path) -> Record:
    """Return the record of a run directory, made where it is missing."""
    root.mkdir(exist_ok=True)
    texts = [TRAIN, "# program\n", "", ".autoresearch/\nresults.tsv\n"]
    for path, text in zip(PATHS, texts, strict=True):
        if not (root / path).exists():
            (root / path).write_text(text)
    return Record.create(RunDirectory(root), "nov21", PATHS)


def step(record: Record, number: int) -> None:
    """Bring one experiment to its verdict, however far it is."""
    chance = random.Random(number)
    found = [e for e in record.session().experiments if e.number == number]
    if not found:
        text = record.files(record.tip())["train.py"].decode()
        knob = chance.randrange(20)
        lines = text.split("\n")
        at = next(i for i, line in enumerate(lines) if line.startswith(f"KNOB_{knob:02d} ="))
        lines[at] = f"KNOB_{knob:02d} = {1000 + number}"
        proposal = Proposal(
            description=f"knob {knob} to {1000 + number}" if number else "baseline",
            files={"train.py": "\n".join(lines) if number else text},
            parent=record.tip(),
            proposer="search" if number else "baseline",
            attachments={"prompt.md": b"x" * 2000},
        )
        record.propose(proposal, number, b"# program\n")
        reach("proposal_stored")
    experiment = record.session().experiment(number)
    fate = chance.choice(["keep", "keep", "discard", "crash"]) if number else "keep"
    if not experiment.trials:
        result = TrialResult(
            seed=number,
            outcome=Outcome.CRASH if fate == "crash" else Outcome.OK,
            reason="oom" if fate == "crash" else "",
            bpb=None if fate == "crash" else 1.5 - number / 1000,
            log_tail="step\n" * 50,
        )
        record.record_trial(number, result, setup=SETUP.key, started_at="2026-03-01T22:00:00Z")
        reach("trial_stored")
    if experiment.verdict is None:
        decision = Decision("keep" if fate == "keep" else "discard", "gain")
        reach("decided")
        record.judge(
            number, Verdict(fate), "oom" if fate == "crash" else "gain", decision, SETUP.key
        )
    if fate == "keep":
        record.update_worktree(record.tip())
    record.export_tsv()
    reach("exported")


def main() -> None:
    """Begin or go on, to the end."""
    root, num = Path(sys.argv[1]), int(sys.argv[2])
    with make(root) as record, record.lock():
        session = record.session()
        if session.state == "finished":
            return
        started = SessionStarted(
            tag="nov21", tip=record.tip(), setup=vars(SETUP), seed=0, proposer="search"
        )
        record.append(started)
        reach("session_started")
        record.update_worktree(record.tip())
        waiting = [e.number for e in session.experiments if e.verdict is None]
        for number in waiting or range(len(session.experiments), num):
            step(record, number)
        for number in range(len(record.session().experiments), num):
            step(record, number)
        record.export_tsv()
        record.append(SessionEnded(reason="experiments"))
        reach("session_ended")


if __name__ == "__main__":
    main()
