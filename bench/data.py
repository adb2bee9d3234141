"""Speed of the data room against the plain way, on the same text, in one run.

    python bench/data.py [--megabytes 20] [--seconds 3]

Text: the standard library of this Python, cut into documents whose lengths are those of web text (log-normal,
median 1,800 bytes, mean 2,500). The plain loader does what training scripts of the field do: it tokenises on
the fly, keeps a buffer of 1,000 documents, scans it for the longest that fits, and crops when none does. Both
loaders are one process with one thread and share the tokenizer.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from autoresearch.config import load_config  # noqa: E402
from autoresearch.tasks.gpt.data.dataset import Dataset  # noqa: E402
from autoresearch.tasks.gpt.data.faults import cut_utf8  # noqa: E402
from autoresearch.tasks.gpt.data.packing import Packer  # noqa: E402
from autoresearch.tasks.gpt.data.sources import list_local  # noqa: E402
from autoresearch.tasks.gpt.data.tokenizer import PATTERN, Tokenizer, train  # noqa: E402

Row = tuple[str, str, str, str]


def plain_batches(
    tokenizer: Tokenizer, texts: list[str], batch: int, width: int
) -> Iterator[np.ndarray]:
    """Yield (B, T + 1) batches the plain way."""
    encode = tokenizer._encoding.encode_ordinary  # noqa: SLF001
    bos = tokenizer.bos_id
    documents: list[list[int]] = []
    position = 0
    while True:
        rows = []
        for _ in range(batch):
            row: list[int] = []
            while len(row) < width:
                while len(documents) < 1000:
                    documents.append([bos, *encode(texts[position % len(texts)])])
                    position += 1
                room = width - len(row)
                best, longest = -1, 0
                for index, document in enumerate(documents):
                    if longest < len(document) <= room:
                        best, longest = index, len(document)
                if best >= 0:
                    row += documents.pop(best)
                else:
                    shortest = min(range(len(documents)), key=lambda i: len(documents[i]))
                    row += documents.pop(shortest)[:room]
            rows.append(row)
        yield np.array(rows, dtype=np.int64)


def rate(step: Callable[[], int], seconds: float) -> float:
    """Return how much a second of one core a step does, by what it returns; the first call is not counted.

    Seconds are those of the CPU, so that other work on the machine does not count.
    """
    step()
    done = 0
    began = time.process_time()
    while (took := time.process_time() - began) < seconds:
        done += step()
    return done / took


def make_texts(max_bytes: int) -> list[bytes]:
    """Return documents of the lengths of web text, made of the standard library."""
    rng = random.Random(0)
    texts, size = [], 0
    for file in list_local("builtin:python").files:
        data = Path(file.path).read_bytes()
        try:
            data.decode()
        except UnicodeDecodeError:
            continue
        while data and size < max_bytes:
            length = max(100, int(rng.lognormvariate(7.5, 0.8)))
            text = cut_utf8(data, length)
            data = data[len(text) :]
            texts.append(text)
            size += len(text)
    return texts


def bench_trainers(texts: list[bytes]) -> Iterator[Row]:
    from tokenizers import Regex, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as HfTokenizer

    size = sum(map(len, texts)) / 1e6
    began = time.perf_counter()
    train(texts, 8192)
    ours = size / (time.perf_counter() - began)
    plain = HfTokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=8191,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    began = time.perf_counter()
    plain.train_from_iterator((t.decode() for t in texts), trainer)
    other = size / (time.perf_counter() - began)
    yield (
        "tokenizer training, 8,192 tokens, all cores",
        f"{ours:.1f} MB/s (rustbpe)",
        f"{other:.1f} MB/s (HF tokenizers)",
        f"{ours / other:.1f}x",
    )


def bench_tokenising(tokenizer: Tokenizer, texts: list[bytes], seconds: float) -> Iterator[Row]:
    strings = [t.decode() for t in texts]
    encode = tokenizer._encoding.encode_ordinary  # noqa: SLF001
    positions = {"ours": 0, "plain": 0}

    def ours() -> int:
        positions["ours"] += 1
        return len(tokenizer.encode_bytes(texts[positions["ours"] % len(texts)]))

    def plain() -> int:
        positions["plain"] += 1
        return len(encode(strings[positions["plain"] % len(strings)]))

    a, b = rate(ours, seconds), rate(plain, seconds)
    yield (
        "tokenising, one core",
        f"{a / 1e6:.2f} M tokens/s",
        f"{b / 1e6:.2f} M tokens/s (to lists)",
        f"{a / b:.1f}x",
    )


PREPARE = """
import json, sys
from autoresearch.config import Config
from autoresearch.tasks.gpt.data.prepare import prepare
print(json.dumps(prepare(Config.model_validate_json(sys.argv[1])).to_json()))
"""


def run_prepare(source: Path, cache: str) -> tuple[dict[str, Any], float]:
    """Run `prepare` in processes of its own; returns the summary and the peak memory of all in MB."""
    import psutil

    config = load_config(None, {"data.source": str(source)}).config
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE, config.model_dump_json()],
        env={**os.environ, "AUTORESEARCH_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    peak = 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            tree = [watched, *watched.children(recursive=True)]
            peak = max(peak, sum(p.memory_info().rss for p in tree))
        except psutil.Error:
            pass
        time.sleep(0.05)
    assert process.stdout is not None
    return json.loads(process.stdout.read()), peak / 1e6


def bench_prepare(texts: list[bytes], cache: str) -> Iterator[Row | Dataset]:
    source = Path(cache) / "text.jsonl"
    with source.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": t.decode()}) + "\n" for t in texts)
    summary, peak = run_prepare(source, cache)
    seconds = {p["phase"]: p["seconds"] for p in summary["phases"]}
    tokens = sum(s["tokens"] for s in summary["splits"].values())
    size = sum(s["bytes"] for s in summary["splits"].values()) / 1e6
    pace = tokens / seconds["tokenise"] / 1e6
    yield ("tokenising and writing shards, all cores", f"{pace:.2f} M tokens/s", "", "")
    yield (
        f"prepare end to end, {size:.0f} MB in {summary['seconds']:.1f} s",
        f"{size / summary['seconds']:.1f} MB/s, peak {peak:.0f} MB of memory",
        "",
        "",
    )
    again, _ = run_prepare(source, cache)
    yield ("prepare when it is done", f"{again['seconds']:.2f} s", "", "")
    yield Dataset.open(Path(summary["path"]))


def bench_batches(dataset: Dataset, texts: list[bytes], seconds: float) -> Iterator[Row]:
    strings = [t.decode() for t in texts]
    for batch, width in ((128, 2048), (8, 256)):
        packer = Packer(dataset.store("train"), seed=0)
        out = np.empty((batch, width + 1), dtype=np.int64)
        plain = plain_batches(dataset.tokenizer, strings, batch, width + 1)
        size = batch * width

        def ours(packer: Packer = packer, out: np.ndarray = out) -> int:
            return packer.fill(out) * (out.shape[1] - 1)

        def other(plain: Iterator[np.ndarray] = plain, size: int = size) -> int:
            return int(next(plain).shape[0] > 0) * size

        a, b = rate(ours, seconds), rate(other, seconds)
        yield (
            f"batches ({batch}, {width}), one core",
            f"{a / 1e6:.0f} M tokens/s",
            f"{b / 1e6:.2f} M tokens/s",
            f"{a / b:.0f}x",
        )


FIRST = """
import time
began = time.perf_counter()
import sys
from pathlib import Path
import numpy as np
from autoresearch.tasks.gpt.data.dataset import Dataset
from autoresearch.tasks.gpt.data.packing import Packer
out = np.empty((128, 2049), dtype=np.int64)
Packer(Dataset.open(Path(sys.argv[1])).store("train"), seed=0).fill(out)
print(time.perf_counter() - began)
"""


def bench_first(dataset: Dataset) -> Iterator[Row]:
    times = [
        float(
            subprocess.run(
                [sys.executable, "-c", FIRST, str(dataset.path)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for _ in range(3)
    ]
    yield (
        "first batch (128, 2048) of a new process, imports included",
        f"{min(times):.2f} s",
        "",
        "",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each rate")
    options = parser.parse_args()
    texts = make_texts(options.megabytes * 10**6)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f} before, numpy {np.__version__}\n")
    print("| what | here | the plain way | ratio |\n|---|---|---|---|")

    def show(rows: Iterator[Any]) -> None:
        for row in rows:
            print("| " + " | ".join(row) + " |", flush=True)

    show(bench_trainers(texts))
    with tempfile.TemporaryDirectory() as cache:
        *rows, dataset = bench_prepare(texts, cache)
        show(iter(rows))
        assert isinstance(dataset, Dataset)
        show(bench_tokenising(dataset.tokenizer, texts, options.seconds))
        show(bench_batches(dataset, texts, options.seconds))
        show(bench_first(dataset))


if __name__ == "__main__":
    main()
