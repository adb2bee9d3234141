"""How fast and how large the record is after thousands of experiments: `python bench/record.py [5000]`.

Makes the journal that many experiments leave (4 events each, with prompts, replies, curves and log tails of usual
size) and measures what a person waits for. Prints one table.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from autoresearch.config import DecisionConfig
from autoresearch.decision.belief import believe
from autoresearch.decision.rule import decide
from autoresearch.events import Event, Noted, Proposed, SessionStarted, TrialJudged, VerdictGiven
from autoresearch.paths import RunDirectory
from autoresearch.record.fold import curve_to_bytes, result_to_json
from autoresearch.record.record import Record
from autoresearch.record.refs import branch_ref, journal_ref
from autoresearch.session.housekeeping import pack
from autoresearch.tasks.gpt import METRIC
from autoresearch.types import CurvePoint, Decision, Outcome, Setup, TrialResult, Usage
from autoresearch.util.text import clean_json

WORDS = [
    "rate",
    "batch",
    "depth",
    "width",
    "window",
    "rope",
    "norm",
    "init",
    "decay",
    "warmup",
    "head",
    "value",
    "gate",
    "skip",
    "mix",
]


class Stream:
    """`git fast-import` streams, one after the other, that leave loose objects as the lab does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mark = 0
        self.begin()

    def begin(self) -> None:
        """Start the next one; marks of the earlier ones hold."""
        marks = self.root / ".git" / "bench-marks"
        self.process = subprocess.Popen(
            ["git", "-c", "fastimport.unpackLimit=1000000", "fast-import", "--quiet", "--force", "--depth=0",
             f"--import-marks-if-exists={marks}", f"--export-marks={marks}"],
            cwd=self.root,
            stdin=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdin is not None
        self.pipe = self.process.stdin

    def blob(self, content: bytes) -> int:
        """Write a blob and return its mark."""
        self.mark += 1
        self.pipe.write(b"blob\nmark :%d\ndata %d\n%s\n" % (self.mark, len(content), content))
        return self.mark

    def commit(
        self, ref: str, message: bytes, at: int, parents: list[str], files: dict[str, int]
    ) -> int:
        """Write a commit and return its mark."""
        self.mark += 1
        who = b"autoresearch <autoresearch@localhost> %d +0000" % at
        lines = [b"commit " + ref.encode(), b"mark :%d" % self.mark, b"author " + who]
        lines += [b"committer " + who, b"data %d" % len(message), message]
        for verb, parent in zip(["from", *["merge"] * 9], parents, strict=False):
            lines.append(f"{verb} {parent}".encode())
        lines.append(b"deleteall")
        lines += [b"M 100644 :%d %s" % (blob, name.encode()) for name, blob in files.items()]
        self.pipe.write(b"\n".join(lines) + b"\n")
        return self.mark

    def close(self) -> None:
        """End the stream; what it held is in the repository then."""
        self.pipe.close()
        if self.process.wait():
            raise SystemExit("git fast-import failed")


def _text(chance: random.Random, num_words: int) -> str:
    return " ".join(chance.choice(WORDS) + str(chance.randrange(100)) for _ in range(num_words))


def build(root: Path, num_experiments: int) -> None:
    """Write a session of `num_experiments` into a new run directory."""
    chance = random.Random(0)
    source = "\n".join(f"    x{n} = layer_{n}(x, {_text(chance, 4)!r})" for n in range(400))
    root.mkdir(parents=True)
    for name, text in {
        "train.py": source,
        "program.md": _text(chance, 300),
        "autoresearch.toml": "",
        ".gitignore": ".autoresearch/\n",
    }.items():
        (root / name).write_text(text)
    with Record.create(
        RunDirectory(root), "bench", ["train.py", "program.md", "autoresearch.toml", ".gitignore"]
    ) as record:
        tip = record.tip()
    setup = Setup("H100", "2.13", "570", 300.0, "d", "1", 2048, 20_000_000)
    stream = Stream(root)
    journal, branch = journal_ref("bench"), branch_ref("bench")
    clock = 1_760_000_000
    last: list[str] = []
    program = stream.blob(_text(chance, 300).encode())

    def add(event: Event, files: dict[str, int], parents: list[str]) -> None:
        line = json.dumps(clean_json(event.to_json()), separators=(",", ":")).encode() + b"\n"
        mark = stream.commit(journal, line, clock, [*last, *parents], files)
        last[:] = [f":{mark}"]

    add(
        SessionStarted(
            metric=METRIC, tag="bench", tip=tip, setup=vars(setup), seed=0, proposer="llm"
        ),
        {},
        [],
    )
    branch_files = {"train.py": stream.blob(source.encode()), "program.md": program}
    parent = tip
    lines = source.split("\n")
    tried: list[str] = []
    for number in range(num_experiments):
        clock += 340
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock))
        mine = list(lines)
        mine[chance.randrange(len(mine))] += f"  # {_text(chance, 3)}"
        files = {**branch_files, "train.py": stream.blob("\n".join(mine).encode())}
        description = _text(chance, 8)
        is_kept = chance.random() < 0.1
        ref = "refs/bench/candidates"
        candidate = stream.commit(ref, description.encode(), clock, [parent], files)
        prompt = _text(random.Random(1), 600) + "\n".join(mine) + "\n".join(tried[-60:])
        event_files = {
            "prompt.md": stream.blob(prompt.encode()),
            "reply.md": stream.blob(_text(chance, 250).encode()),
            "program.md": program,
        }
        add(
            Proposed(
                at=at, number=number, commit=tip, parent=tip,
                identity=f"{chance.getrandbits(64):016x}",
                proposer="llm", description=description, hypothesis=_text(chance, 40),
                expected_effect=_text(chance, 6), theme=chance.choice(WORDS),
                usage=Usage(1, 20_000, 900, 15_000, 0.012, 21.5),
                lines_added=1, lines_removed=1, program="0" * 40,
            ),
            event_files, [f":{candidate}"],
        )  # fmt: skip
        for _ in range(2 if is_kept else 1):
            result = TrialResult(
                seed=chance.getrandbits(31), outcome=Outcome.OK, score=0.99 + chance.random() / 100,
                claimed_score=0.99 + chance.random() / 100, score_se=1e-4, num_audited=2048,
                num_tokens=499_000_000, num_steps=953, train_seconds=300.01,
                startup_seconds=21.3, submit_seconds=0.4, judge_seconds=9.7, total_seconds=332.1,
                tokens_per_second=1_646_000.0, peak_memory_mb=45_000.0, num_params=50_300_000,
                sandbox="bubblewrap", extra={"mfu_percent": 39.8},
            )  # fmt: skip
            curve = [CurvePoint(5.0 * n, 8_000_000 * n, 3.0 + chance.random()) for n in range(60)]
            log = "\n".join(f"step {n} loss {3 + chance.random():.4f}" for n in range(80))
            add(
                TrialJudged(
                    at=at, number=number, index=0, setup=setup.key, started_at=at,
                    result=result_to_json(result),
                ),
                {"curve.json": stream.blob(curve_to_bytes(curve)), "log.txt": stream.blob(log.encode())},
                [],
            )  # fmt: skip
        decision = Decision(
            "keep" if is_kept else "discard", "gain" if is_kept else "no_gain", 0.31, -0.0003,
            -0.001, 0.0004, -0.0002, 0.0005, 1, _text(chance, 14),
        )  # fmt: skip
        kept = ""
        if is_kept:
            commit = stream.commit(branch, description.encode(), clock, [parent], files)
            parent, lines, branch_files = f":{commit}", mine, files
            kept = tip
        add(
            VerdictGiven(
                at=at, number=number, verdict=decision.action, reason=decision.reason, commit=kept,
                decision=asdict(decision), setup=setup.key,
            ),
            {}, [parent] if is_kept else [],
        )  # fmt: skip
        tried.append(f"#{number} {description}: {decision.reason}")
        if number % 50 == 49:
            stream.close()
            with Record.open(RunDirectory(root)) as record:
                pack(record)
            stream.begin()
    stream.close()
    subprocess.run(["git", "update-ref", "-d", "refs/bench/candidates"], cwd=root, check=True)


class Cost(NamedTuple):
    """What one process took."""

    seconds: float
    cpu_seconds: float
    """Its own and its children's: what it takes on an idle machine with one core."""
    memory_mb: float


def _cost(root: Path, *args: str) -> Cost:
    """Run `autoresearch ARGS` three times and return the cheapest."""
    costs = []
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    for _ in range(3):
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "autoresearch", *args],
            cwd=root,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"autoresearch {' '.join(args)} failed")
        seconds = time.perf_counter() - start
        costs.append(Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024))
    return min(costs)


def _belief(record: Record) -> list[tuple[str, str, str]]:
    """Measure what it takes to believe: the whole journal once, then one trial of the best more and one decision."""
    session = record.session()
    start = time.perf_counter()
    size = len(believe(session).dump())
    whole = time.perf_counter() - start
    best, times = session.experiment(session.best), []
    score = best.trials[-1].result
    for n in range(20):
        record.record_trial(best.number, replace(score, seed=n), setup=best.setup, started_at="")
        session = record.session()
        best = session.experiment(best.number)
        idea = replace(best, number=len(session.experiments), parent=best.commit)
        start = time.perf_counter()
        decide(idea, best, session, DecisionConfig())
        times.append(time.perf_counter() - start)
    return [
        ("belief of the whole journal", f"{whole:.1f} s", ""),
        ("  stored", f"{size / 1e6:.1f} MB", ""),
        ("one more trial, one decision", f"{sorted(times)[10] * 1000:.0f} ms", "20 ms"),
    ]


def _megabytes(root: Path) -> float:
    files = [path.lstat() for path in (root / ".git").rglob("*") if path.is_file()]
    return sum(s.st_blocks * 512 for s in files) / 1e6


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiments", type=int, nargs="?", default=5000)
    num = parser.parse_args().experiments
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "lab"
        start = time.perf_counter()
        build(root, num)
        rows.append(("build (fast-import, pack)", f"{time.perf_counter() - start:.1f} s", ""))
        rows.append(("repository as written", f"{_megabytes(root):.1f} MB", ""))
        for title, limit, *args in (
            ("log -n 20", "0.5 s", "log", "-n", "20"),
            ("log --json -n 0", "2 s", "log", "--json", "-n", "0"),
            ("show last", "", "show", "last"),
        ):
            cost = _cost(root, *args)
            rows.append((title, f"{cost.seconds:.2f} s", limit))
            rows.append(("  of it on the processor", f"{cost.cpu_seconds:.2f} s", ""))
            rows.append(("  memory", f"{cost.memory_mb:.0f} MB", "200 MB"))
        shutil.rmtree(root / ".autoresearch" / "index", ignore_errors=True)
        with Record.open(RunDirectory(root)) as record:
            start = time.perf_counter()
            session = record.session()
            rows.append(("session() without an index", f"{time.perf_counter() - start:.3f} s", ""))
            assert len(session.experiments) == num
            times = []
            for n in range(20):
                start = time.perf_counter()
                record.append(Noted(text=f"note {n}"))
                record.session()
                times.append(time.perf_counter() - start)
            rows.append(("append + session()", f"{sorted(times)[10] * 1000:.0f} ms", ""))
            rows += _belief(record)
            start = time.perf_counter()
            pack(record, force=True)
            rows.append(("pack()", f"{time.perf_counter() - start:.1f} s", ""))
        rows.append(("repository after pack()", f"{_megabytes(root):.1f} MB", "50 MB"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{num} experiments (peak of this process {peak:.0f} MB)")
    for name, value, limit in rows:
        print(f"  {name:<32} {value:>10}   {'limit ' + limit if limit else ''}".rstrip())


if __name__ == "__main__":
    main()
