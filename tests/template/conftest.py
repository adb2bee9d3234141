"""A small prepared text and a function that runs a template as a real trial on it."""

from functools import partial

import numpy as np
import pytest

import small_text
from autoresearch.config import load_config
from autoresearch.types import TrialSpec

SETTINGS = {
    "data.vocab_size": 300,
    "data.holdout_share": 0.1,
    "trial.max_seq_len": 64,
    "trial.budget_seconds": 1.5,
    "trial.startup_seconds": 120.0,
    "trial.device": "cpu",
    "judge.context": 64,
    "judge.eval_tokens": 8192,
    "judge.batch_rows": 32,
    "judge.audit_positions": 64,
    "judge.timeout_seconds": 120.0,
}


write_text = partial(
    small_text.write_text,
    starts=("gra", "mo", "ten", "ler", "ba"),
    ends=("di", "ent", "ze", "rn"),
    seed=7,
    num_documents=300,
    num_words=(40, 200),
)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Settings and dataset, made once."""
    return small_text.prepare_text(tmp_path_factory, write_text, SETTINGS)


@pytest.fixture
def unjudged(monkeypatch):
    """Leave judging out, and trying it; the score is -1."""
    leave_judging_out(monkeypatch)


def leave_judging_out(monkeypatch):
    """Do what the fixture `unjudged` does."""
    from autoresearch.tasks.gpt import executor as gpt_executor
    from autoresearch.tasks.gpt.judge.run import Judged
    from autoresearch.tasks.gpt.judge.score import Score
    from autoresearch.trial.child.script import CHECKED_VARIABLE

    def judged(work, *_):
        return Judged(
            Score(score=-1.0, claimed_score=-1.0), {}, np.zeros(work.text.num_bytes.shape)
        )

    monkeypatch.setattr(gpt_executor, "judge_weights", judged)
    monkeypatch.setattr(gpt_executor.GptExecutor, "_told", lambda *_: {CHECKED_VARIABLE: "1"})


@pytest.fixture
def run_trial(prepared, tmp_path, monkeypatch):
    """Return a function: files (path -> text) and settings -> TrialResult; it may take a minute to hand in."""
    from autoresearch.sandbox import NoSandbox
    from autoresearch.tasks.gpt import executor as gpt_executor
    from autoresearch.tasks.gpt.executor import GptExecutor

    monkeypatch.setattr(gpt_executor, "_FIRST_ALLOWANCE_SECONDS", 60.0)

    settings, dataset = prepared

    def run(files, *, sandbox=None, seed=3, **changes):
        values = {name.replace("__", "."): value for name, value in changes.items()}
        config = load_config(None, {**settings, **values}).config
        executor = GptExecutor(config, dataset, sandbox or NoSandbox(), scratch=tmp_path / "trials")
        encoded = {name: text.encode() for name, text in files.items() if name.endswith(".py")}
        budget = config.trial.budget_seconds
        return executor.run(TrialSpec(files=encoded, seed=seed, budget_seconds=budget, label="0-1"))

    return run
