"""A trainer and a proposer that need no model: exact, deterministic, quick."""

import random
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

from autoresearch.events import Progress
from autoresearch.proposer.base import Context, EditFailedError, ProposerUnavailableError
from autoresearch.types import CurvePoint, Outcome, Proposal, TrialResult, TrialSpec

TRAIN = """LR = 1.0  # learning rate
WIDTH = 64
SEED = 0
# a script that the stand-in reads but never runs
"""


class FormulaExecutor:
    """Scores a train.py by a formula of its constants: best at LR 3.0, noise by seed.

    `LR = -1` crashes, `WIDTH = 0` is invalid.
    """

    def __init__(self, noise: float = 0.0005) -> None:
        self.noise = noise
        self.specs: list[TrialSpec] = []
        self.before_trial: Callable[[TrialSpec], None] = lambda _: None

    def run(
        self,
        spec: TrialSpec,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> TrialResult:
        self.specs.append(spec)
        self.before_trial(spec)
        text = spec.files["train.py"].decode()
        values = {k: float(v) for k, v in re.findall(r"^([A-Z]+) = (-?[\d.]+)", text, re.MULTILINE)}
        if on_progress is not None:
            on_progress(
                Progress(
                    number=spec.number,
                    label=spec.label,
                    phase="train",
                    seconds=1,
                    budget_seconds=2,
                    num_tokens=500,
                )
            )
        base = TrialResult(
            seed=spec.seed,
            outcome=Outcome.OK,
            split=spec.split,
            num_tokens=1000,
            num_steps=10,
            train_seconds=2.0,
            startup_seconds=0.1,
            judge_seconds=0.1,
            total_seconds=2.2,
            tokens_per_second=500.0,
            peak_memory_mb=100.0,
            curve=(CurvePoint(1.0, 500, 2.0),),
            log_tail="step 10\n",
        )
        if stop is not None and stop.is_set():
            return replace(base, outcome=Outcome.TAINTED, reason="stopped")
        if values["LR"] < 0:
            return replace(base, outcome=Outcome.CRASH, reason="nan", detail="loss is nan")
        if values["WIDTH"] == 0:
            return replace(base, outcome=Outcome.INVALID, reason="claim_mismatch")
        luck = random.Random(f"{spec.seed} {spec.split} {text}").gauss(0, self.noise)
        score = 1.0 + 0.01 * (values["LR"] - 3.0) ** 2 + luck
        return replace(base, score=score, claimed_score=score, score_se=0.0, num_audited=64)


class ListProposer:
    """Gives prepared texts of train.py, exceptions too, in order."""

    kind = "search"
    name = "a list"

    def __init__(self, answers: Iterable[str | BaseException]) -> None:
        self.answers = list(answers)
        self.history: list[Context] = []

    def propose(self, context: Context, stop: threading.Event) -> Proposal:
        self.history.append(context)
        if not self.answers:
            raise ProposerUnavailableError("nothing left", retry_seconds=None)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return Proposal(
            description=f"try {answer.splitlines()[0]}",
            files={"train.py": answer},
            parent=context.parent,
            proposer="search",
        )

    def check(self) -> str:
        return "a list answers"


def variant(**values: object) -> str:
    """Return the train.py with some constants set."""
    text = TRAIN
    for name, value in values.items():
        text = re.sub(rf"^{name} = \S+", f"{name} = {value}", text, flags=re.MULTILINE)
    return text


__all__ = ["TRAIN", "EditFailedError", "FormulaExecutor", "ListProposer", "variant"]
