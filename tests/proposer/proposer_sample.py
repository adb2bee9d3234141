"""A small program to be tuned, and sessions made by hand, shared by the proposer tests."""

from autoresearch.proposer.base import Context
from autoresearch.tasks.gpt import METRIC
from autoresearch.tasks.gpt.contract import rules
from autoresearch.types import Experiment, Outcome, Session, State, Trial, TrialResult, Verdict

TRAIN = '''\
"""Train something.  \u00e9"""
import torch

# ---- model ----
DEPTH = 4               # transformer blocks
HEAD_DIM = 64           # must divide N_EMBD
N_EMBD = 256            # width, multiple of HEAD_DIM
MLP_RATIO = 4           # hidden units of the MLP per channel, 1 to 8
ROPE_BASE = 10_000.0    # rotary base
# ---- optimisation ----
MATRIX_LR = 0.04        # Muon [0.005, 0.16]
EMBEDDING_LR = 6e-1     # AdamW
ADAM_BETAS = (0.8, 0.95)
WEIGHT_DECAY = 0.0      # on matrices
TOTAL_BATCH = 2**14     # tokens per step
DEVICE_BATCH = 1 << 11  # tokens per micro step
WARMDOWN_FRAC = 0.5     # share of the budget
SEED = 42
VOCAB_SIZE = 8192
DEBUG = False
NAME = "gpt"
NUM_MICRO = TOTAL_BATCH // DEVICE_BATCH

assert TOTAL_BATCH % DEVICE_BATCH == 0, "batch"
assert N_EMBD % HEAD_DIM == 0


def main():
    torch.manual_seed(SEED)
    LOCAL = 3
    return LOCAL


if __name__ == "__main__":
    main()
'''


def trial(score: float | None, reason: str = "") -> Trial:
    outcome = Outcome.OK if score is not None else Outcome.CRASH
    result = TrialResult(
        seed=1,
        outcome=outcome,
        reason=reason,
        score=score,
        train_seconds=300.0,
        tokens_per_second=1e6,
        peak_memory_mb=4000.0,
        num_steps=900,
    )
    return Trial(result, "setup", "2026-03-01T00:00:00Z", "e" * 40)


def experiment(
    number: int, verdict: Verdict | None, score: float | None, **more: object
) -> Experiment:
    values: dict[str, object] = {
        "number": number,
        "commit": f"{number:040x}",
        "parent": "" if number == 0 else f"{0:040x}",
        "state": State.JUDGED if verdict else State.PROPOSED,
        "description": f"idea {number}",
        "proposer": "search" if number else "baseline",
        "verdict": verdict,
        "trials": (trial(score, "oom" if score is None else ""),) if verdict else (),
        "setup": "setup",
    }
    return Experiment(**{**values, **more})  # type: ignore[arg-type]


def session(*experiments: Experiment, seed: int = 7) -> Session:
    base = experiment(0, Verdict.KEEP, 1.5)
    kept = [e.number for e in experiments if e.verdict is Verdict.KEEP]
    return Session(
        tag="t",
        branch="autoresearch/t",
        metric=METRIC,
        experiments=(base, *experiments),
        seed=seed,
        best=kept[-1] if kept else 0,
    )


def context(
    text: str = TRAIN, number: int = 1, past: Session | None = None, **more: object
) -> Context:
    values: dict[str, object] = {
        "session": past or session(),
        "number": number,
        "parent": f"{0:040x}",
        "files": {"train.py": text},
        "program": "Lower val_bpb.",
        "contract": rules({"train.py": text}),
        "max_lines": 630,
        "budget_seconds": 300.0,
    }
    return Context(**{**values, **more})  # type: ignore[arg-type]
