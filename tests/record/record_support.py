"""Drives a record as the loop does, and git as a person does."""

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from autoresearch.events import SessionEnded, SessionStarted
from autoresearch.record.record import Record
from autoresearch.record.revert import apply, plan
from autoresearch.session.proposals import SETTLED_SECONDS
from autoresearch.tasks.gpt import METRIC
from autoresearch.types import (
    CurvePoint,
    Decision,
    Experiment,
    Outcome,
    Proposal,
    ProposerKind,
    Setup,
    TrialResult,
    Verdict,
)

TRAIN = "".join(f"KNOB_{n:02d} = {n}\n\n\n\n" for n in range(20))
SETUP = Setup(
    gpu="cpu", torch="2.13.0", driver="", budget_seconds=5.0, data="d41d8c", judge="1",
    max_seq_len=128, eval_tokens=1000,
)  # fmt: skip


def git(folder: Path, *args: str, check: bool = True) -> str:
    """Run the person's own git in a folder."""
    done = subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout.strip()


def undo(record: Record, name: str | None = None, *, to: str | None = None) -> str:
    """Revert as the verb does; return the new tip."""
    return apply(record, plan(record, name, to=to))


@dataclass
class Night:
    """Drives a record as the loop does, without training."""

    record: Record
    number: int = 0
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.record.run_directory.root

    def start(self) -> None:
        self.record.append(
            SessionStarted(
                metric=METRIC,
                tag=self.record.tag,
                tip=self.record.tip(),
                setup=vars(SETUP),
                seed=1,
                proposer="search",
            )
        )
        self.try_out(TRAIN, "baseline", proposer="baseline", score=1.5)

    def end(self, reason: str = "finished") -> None:
        self.record.append(SessionEnded(reason=reason, wall_seconds=10.0, busy={"train": 8.0}))

    def propose(
        self,
        text: str,
        description: str,
        proposer: ProposerKind = "search",
        hypothesis: str = "",
    ) -> Experiment:
        proposal = Proposal(
            description=description,
            files={"train.py": text},
            parent=self.record.tip(),
            proposer=proposer,
            hypothesis=hypothesis,
            attachments={"prompt.md": b"try something"},
        )
        experiment = self.record.propose(proposal, self.number, b"# program\n")
        self.number += 1
        return experiment

    def trial(self, number: int, score: float | None) -> None:
        result = TrialResult(
            seed=7,
            outcome=Outcome.OK if score is not None else Outcome.CRASH,
            reason="" if score is not None else "oom",
            score=score,
            peak_memory_mb=2048.0,
            curve=(CurvePoint(0.5, 100, 3.25), CurvePoint(1.0, 200, None, {"lr": 0.1})),
            log_tail="step 1\n",
        )
        self.record.record_trial(number, result, setup=SETUP.key, started_at="2026-03-01T22:00:00Z")

    def try_out(
        self,
        text: str,
        description: str = "change a knob",
        *,
        score: float | None = 1.4,
        keep: bool = True,
        proposer: ProposerKind = "search",
        hypothesis: str = "",
    ) -> Experiment:
        experiment = self.propose(text, description, proposer, hypothesis)
        self.trial(experiment.number, score)
        if score is None:
            self.record.judge(experiment.number, Verdict.CRASH, "oom", setup=SETUP.key)
        elif keep:
            self.keep(experiment.number)
        else:
            self.discard(experiment.number)
        return self.record.session().experiment(experiment.number)

    def keep(self, number: int) -> None:
        decision = Decision("keep", "gain", p_real=0.97, delta=-0.1, num_trials=1)
        self.record.judge(number, Verdict.KEEP, "gain", decision, SETUP.key)
        self.record.update_worktree(self.record.tip())

    def discard(self, number: int) -> None:
        decision = Decision("discard", "no_gain", p_real=0.1, delta=0.1, num_trials=1)
        self.record.judge(number, Verdict.DISCARD, "no_gain", decision, SETUP.key)

    def edit(self, text: str, age: float = 120.0) -> None:
        """Write train.py as a person does, `age` seconds ago."""
        (self.root / "train.py").write_text(text)
        then = time.time() - age
        os.utime(self.root / "train.py", (then, then))

    def hand_edit(self) -> dict[str, str] | None:
        """Return what of the working tree would be taken as a hand edit."""
        worktree = self.record.worktree
        edit = worktree.hand_edit(["train.py"], self.record.tip(), SETTLED_SECONDS)
        return dict(edit.files) if edit else None

    def knob(self, number: int, value: int) -> str:
        """Return the tip's train.py with one constant changed."""
        text = self.record.files(self.record.tip())["train.py"].decode()
        lines = text.split("\n")
        at = next(i for i, line in enumerate(lines) if line.startswith(f"KNOB_{number:02d} ="))
        lines[at] = f"KNOB_{number:02d} = {value}"
        return "\n".join(lines)
