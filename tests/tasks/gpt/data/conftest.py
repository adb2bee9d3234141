"""A small text to prepare, and a configuration for it."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoresearch.config import Config, load_config

WORDS = [
    "lab",
    "night",
    "trial",
    "token",
    "shard",
    "model",
    "number",
    "keep",
    "discard",
    "noise",
    "judge",
    "branch",
    "commit",
    "idea",
    "seed",
    "batch",
    "row",
    "learn",
    "rate",
    "depth",
    "width",
    "head",
    "layer",
    "text",
    "byte",
    "hash",
]


def make_text(seed: int, num_words: int) -> str:
    """Return lines of words that differ for each seed."""
    rng = random.Random(seed)
    words = [
        rng.choice(WORDS) + rng.choice(["", "s", "ed", "\n", ", 12.5", " é", "."])
        for _ in range(num_words)
    ]
    return " ".join(words) + f" {seed}\n"


@pytest.fixture
def texts() -> list[str]:
    """300 different documents of 20 to 600 words."""
    rng = random.Random(7)
    return [make_text(i, rng.randrange(20, 600)) for i in range(300)]


@pytest.fixture
def make_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """Return a function from settings of `[data]` to a configuration; the cache is in `tmp_path`."""
    monkeypatch.setenv("AUTORESEARCH_CACHE_DIR", str(tmp_path / "cache"))

    def make(source: object, **settings: Any) -> Config:
        values = {
            "data.source": str(source),
            "data.vocab_size": 400,
            "trial.max_seq_len": 64,
            "judge.context": 64,
            "judge.eval_tokens": 2048,
        }
        values |= {f"data.{name}": value for name, value in settings.items() if "__" not in name}
        values |= {n.replace("__", "."): v for n, v in settings.items() if "__" in n}
        return load_config(None, values).config

    return make
