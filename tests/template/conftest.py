"""A small prepared text and a function that runs a template as a real trial on it."""

import os
import random

import pytest

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


def write_text(folder):
    """Write documents in which each word has two likely successors."""
    rng = random.Random(7)
    words = [a + b for a in ("gra", "mo", "ten", "ler", "ba") for b in ("di", "ent", "ze", "rn")]
    after = {w: rng.sample(words, 2) for w in words}
    for number in range(300):
        word, text = rng.choice(words), []
        for _ in range(rng.randrange(40, 200)):
            word = rng.choice(after[word]) if rng.random() < 0.9 else rng.choice(words)
            text.append(word)
        (folder / f"{number:03}.txt").write_text(f"{' '.join(text)} {number}.\n", encoding="utf-8")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Settings and dataset, made once."""
    from autoresearch.data.prepare import open_dataset, prepare

    folder, cache = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("cache")
    write_text(folder)
    before = os.environ.get("AUTORESEARCH_CACHE_DIR")
    os.environ["AUTORESEARCH_CACHE_DIR"] = str(cache)
    try:
        settings = {**SETTINGS, "data.source": str(folder)}
        config = load_config(None, settings).config
        prepare(config)
        return settings, open_dataset(config)
    finally:
        if before is None:
            del os.environ["AUTORESEARCH_CACHE_DIR"]
        else:
            os.environ["AUTORESEARCH_CACHE_DIR"] = before


@pytest.fixture
def run_trial(prepared, tmp_path, monkeypatch):
    """Return a function: files (path -> text) and settings -> TrialResult; it may take a minute to hand in."""
    from autoresearch.execution import local
    from autoresearch.execution.local import LocalExecutor
    from autoresearch.sandbox import NoSandbox

    monkeypatch.setattr(local, "_FIRST_ALLOWANCE_SECONDS", 60.0)

    settings, dataset = prepared

    def run(files, *, sandbox=None, seed=3, **changes):
        values = {name.replace("__", "."): value for name, value in changes.items()}
        config = load_config(None, {**settings, **values}).config
        executor = LocalExecutor(
            config, dataset, sandbox or NoSandbox(), scratch=tmp_path / "trials"
        )
        encoded = {name: text.encode() for name, text in files.items() if name.endswith(".py")}
        budget = config.trial.budget_seconds
        return executor.run(TrialSpec(files=encoded, seed=seed, budget_seconds=budget, label="0-1"))

    return run
