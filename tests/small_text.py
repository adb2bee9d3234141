"""A small text to train on, and the dataset made of it; each word has two likely successors."""

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from autoresearch.config import load_config
from autoresearch.tasks.gpt.data.dataset import Dataset


def write_text(
    folder: Path,
    starts: Sequence[str],
    ends: Sequence[str],
    *,
    seed: int,
    num_documents: int,
    num_words: tuple[int, int],
) -> None:
    """Write documents of words that are made of a start and an end."""
    rng = random.Random(seed)
    words = [a + b for a in starts for b in ends]
    after = {w: rng.sample(words, 2) for w in words}
    for number in range(num_documents):
        word, text = rng.choice(words), []
        for _ in range(rng.randrange(*num_words)):
            word = rng.choice(after[word]) if rng.random() < 0.9 else rng.choice(words)
            text.append(word)
        (folder / f"{number:03}.txt").write_text(f"{' '.join(text)} {number}.\n", encoding="utf-8")


def prepare_text(
    factory: pytest.TempPathFactory, write: Callable[[Path], None], settings: dict[str, Any]
) -> tuple[dict[str, Any], Dataset]:
    """Return the settings, with the source, and the dataset of what `write` puts in a folder."""
    from autoresearch.tasks.gpt.data.prepare import open_dataset, prepare

    folder, cache = factory.mktemp("text"), factory.mktemp("cache")
    write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "AUTORESEARCH_CACHE_DIR", str(cache))
        settings = {**settings, "data.source": str(folder)}
        config = load_config(None, settings).config
        prepare(config)
        return settings, open_dataset(config)
