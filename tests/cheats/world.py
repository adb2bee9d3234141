"""Runs the zoo: each train.py of `zoo/` through the real host, judge and sandbox, against what it must get.

    python tests/cheats/world.py [--backend bubblewrap|landlock|all] [--only WORD ...] [--quick]

Prints a table: cheat, verdict, reason, seconds. Exit status 1 when one is not as expected. A train.py says in its
docstring what it must get: `expect: invalid claim_mismatch|biased_claim`, perhaps `detail: words` of the sentence
that is told, and `settings: judge.timeout_seconds=6 runs=2`.
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import socket
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from autoresearch.config import load_config
from autoresearch.sandbox import Sandbox
from autoresearch.sandbox.select import BACKENDS, probe
from autoresearch.tasks.gpt import executor as gpt_executor
from autoresearch.tasks.gpt import training
from autoresearch.tasks.gpt.data.prepare import open_dataset, prepare
from autoresearch.tasks.gpt.executor import GptExecutor
from autoresearch.trial import process
from autoresearch.types import Calibration, Outcome, TrialResult, TrialSpec

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import small_text  # noqa: E402

KEY = "sk-canary-0123456789"
BUDGET_SECONDS = 1.0
SUBMIT_SECONDS = 0.5
PATIENT_SECONDS = 30.0
"""In place of it where the case is not about handing in late: a busy machine may stall."""
SETTINGS: dict[str, Any] = {
    "data.vocab_size": 300,
    "data.holdout_share": 0.25,
    "trial.max_seq_len": 64,
    "trial.budget_seconds": BUDGET_SECONDS,
    "trial.startup_seconds": 60.0,
    "trial.device": "cpu",
    "judge.context": 64,
    "judge.eval_tokens": 32_768,
    "judge.batch_rows": 64,
    "judge.audit_positions": 512,
    "judge.timeout_seconds": 60.0,
    "sandbox.disk_mb": 512,
}
QUICK = (
    "ahead_dense",
    "ahead_tiny",
    "claim_patched_server",
    "state_on_disk",
    "read_validation",
    "read_memory_of_the_lab",
    "network_internet",
    "network_local_sockets",
    "process_daemon",
    "smuggle_files",
    "weights_pickle",
    "honest_workers",
)
"""Those that are tried with every change, beside some of each kind."""
_SHARE = 5
"""One in so many of a kind."""


@dataclass(frozen=True)
class Case:
    """One train.py and what it must get."""

    name: str
    text: str
    expected: tuple[tuple[str, str], ...]
    """Pairs (outcome, reason), any of which will do; an empty reason is any."""
    detail: str = ""
    settings: dict[str, float] = field(default_factory=dict)
    runs: int = 1
    hung_seconds: float = 20.0
    submit_seconds: float = SUBMIT_SECONDS
    """What handing in took the baseline, where the case is about handing in late."""

    @property
    def may_be_late(self) -> bool:
        """Whether `overtime` will do."""
        return any(reason == "overtime" for _, reason in self.expected)


@dataclass(frozen=True)
class Row:
    """How one case went."""

    name: str
    backend: str
    outcome: str
    reason: str
    seconds: float
    problems: tuple[str, ...]
    detail: str = ""
    score: float | None = None


def read_cases() -> list[Case]:
    """Return the zoo in order of names."""
    return [_read_case(path) for path in sorted((HERE / "zoo").glob("*.py"))]


def chosen(cases: Iterable[Case]) -> Iterator[Case]:
    """Yield those of a quick round: QUICK, and some of each kind, which is the first word of a name."""
    seen: Counter[str] = Counter()
    for case in cases:
        kind = case.name.partition("_")[0]
        if case.name in QUICK or seen[kind] % _SHARE == 0:
            yield case
        seen[kind] += 1


def _read_case(path: Path) -> Case:
    text = path.read_text(encoding="utf-8")
    fields = dict(re.findall(r"^(expect|detail|settings): (.+)$", text, re.MULTILINE))
    expected, outcome = [], ""
    for item in fields["expect"].split("|"):
        words = item.split()
        if words[0] in ("ok", "crash", "invalid", "tainted"):
            outcome, words = words[0], words[1:]
        expected.append((outcome, words[0] if words else ""))
    pairs = (pair.split("=") for pair in fields.get("settings", "").split())
    settings = {name: float(value) for name, value in pairs}
    runs, hung = int(settings.pop("runs", 1)), settings.pop("hung_seconds", Case.hung_seconds)
    submit = settings.pop("submit_seconds", SUBMIT_SECONDS)
    detail = fields.get("detail", "")
    return Case(path.stem, text, tuple(expected), detail, settings, runs, hung, submit)


class World:
    """A lab with things worth stealing, beside which trials run.

    Args:
        root: An empty folder.
    """

    def __init__(self, root: Path) -> None:
        root.chmod(0o755)
        self.root = root
        self.mark = f"zoo-{os.getpid()}-{random.randrange(1 << 30)}"
        self.canary = root / "executed"
        self.secrets = [
            root / "run" / name
            for name in (
                ".git/config",
                ".git/HEAD",
                ".autoresearch/journal.jsonl",
                ".autoresearch/validation.txt",
                "program.md",
            )
        ] + [root / "home" / name for name in (".netrc", ".ssh/id_ed25519", ".env")]
        for path in self.secrets:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{KEY} {path.name}\n")
            path.chmod(0o666)
        (root / "text").mkdir()
        small_text.write_text(
            root / "text",
            starts=("lab", "tri", "no", "ke", "sha"),
            ends=("da", "mi", "xe", "é", "rd", "st"),
            seed=5,
            num_documents=500,
            num_words=(50, 300),
        )
        self.cache = root / "cache"
        os.environ["AUTORESEARCH_CACHE_DIR"] = str(self.cache)
        os.environ["ZOO_API_KEY"] = KEY
        os.environ["OMP_NUM_THREADS"] = "1"
        training.MAX_LOG_BYTES, gpt_executor.MAX_WEIGHTS_BYTES = 200_000, 50_000_000
        process.MAX_PROCESSES = 200
        config = load_config(None, self._settings({})).config
        prepare(config)
        self.dataset = open_dataset(config)
        self._sockets = [_listen(str(root / "lab.sock")), _listen("\0" + self.mark)]

    def close(self) -> None:
        """Close what listens."""
        for listener in self._sockets:
            listener.close()

    def run(self, case: Case, sandbox: Sandbox) -> Row:
        """Run one case and compare."""
        started = time.monotonic()
        problems: list[str] = []
        tag = f"{case.name}-{sandbox.name}"
        last = TrialResult(seed=1, outcome=Outcome.TAINTED)
        for number in range(case.runs):
            try:
                last = self._trial(case, sandbox, tag)
            except Exception as exc:
                problems.append(f"the lab failed: {exc!r:.200}")
                break
            found = self._check(case, last, tag)
            problems += [f"run {number + 1}: {text}" if number else text for text in found]
        return Row(
            case.name,
            sandbox.name,
            str(last.outcome),
            last.reason,
            time.monotonic() - started,
            tuple(problems),
            last.detail,
            last.score,
        )

    def _trial(self, case: Case, sandbox: Sandbox, tag: str) -> TrialResult:
        config = load_config(None, self._settings(case.settings)).config
        known = {
            "DATA": [str(self.cache), str(self.root / "text")],
            "SECRETS": [str(path) for path in self.secrets],
            "HOMES": [str(self.root / "home"), str(Path("~").expanduser())],
            "SOCKETS": [str(self.root / "lab.sock"), "\0" + self.mark],
            "MARK": f"{self.mark}-{tag}",
            "CANARY": str(self.canary),
            "LAB": os.getpid(),
        }
        lines = "".join(f"{name} = {value!r}\n" for name, value in known.items())
        files = {
            "train.py": case.text.encode(),
            "base.py": (HERE / "base.py").read_bytes(),
            "reach.py": (HERE / "reach.py").read_bytes(),
            "known.py": lines.encode(),
        }
        executor = GptExecutor(
            config,
            self.dataset,
            sandbox,
            scratch=self.root / "scratch" / tag,
            calibration=Calibration(case.submit_seconds if case.may_be_late else PATIENT_SECONDS),
            cache=self.root / "compiled" / tag,
        )
        executor.hung_seconds = case.hung_seconds
        spec = TrialSpec(
            files=files,
            seed=1,
            budget_seconds=config.trial.budget_seconds,
            label="1-1",
        )
        return executor.run(spec)

    def _settings(self, changes: dict[str, float]) -> dict[str, Any]:
        source = {"data.source": str(self.root / "text")}
        return {
            **SETTINGS,
            **source,
            **{n: int(v) if v.is_integer() else v for n, v in changes.items()},
        }

    def _check(self, case: Case, result: TrialResult, tag: str) -> Iterator[str]:
        """Yield what is not as it must be."""
        got = (str(result.outcome), result.reason)
        if not any(got[0] == o and r in ("", got[1]) for o, r in case.expected):
            yield f"got {got[0]} {got[1]}: {result.detail}"
        if case.detail and case.detail not in result.detail:
            yield f"told `{result.detail}`"
        said = repr(result)
        if KEY in said or (self.canary.exists()):
            yield "a key got out" if KEY in said else "code of the candidate ran outside"
        for text in (result.detail, result.log_tail.replace("\n", "").replace("\t", "")):
            if any(unicodedata.category(c)[0] == "C" for c in text):
                yield "control characters got out"
        for path in self.secrets:
            if path.read_text() != f"{KEY} {path.name}\n" or path.stat().st_mode & 0o777 != 0o666:
                yield f"{path.name} was changed"
        yield from self._check_leftovers(tag)
        yield from self._check_numbers(case, result)

    def _check_leftovers(self, tag: str) -> Iterator[str]:
        alive = survivors(f"{self.mark}-{tag}")
        if alive:
            yield f"processes {alive} are alive"
        scratch = self.root / "scratch" / tag
        if scratch.is_dir() and any(path.is_dir() for path in scratch.iterdir()):
            yield "folders are left"
        for place in ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"):
            with contextlib.suppress(OSError):
                left = [
                    path.name
                    for path in Path(place).iterdir()
                    if path.name.startswith(("zoo-note", "zoo-memory", "zoo-block"))
                    or (path.is_symlink() and path.readlink().is_relative_to(scratch))
                ]
                if left:
                    yield f"left {left} in {place}"

    def _check_numbers(self, case: Case, result: TrialResult) -> Iterator[str]:
        floor = self.dataset.unigram_bpb
        if str(result.outcome) == "ok" and result.score is None:
            yield "no score"
        if case.name == "printed_score" and (result.score or 0.0) < floor:
            yield f"a score of {result.score} for untrained weights"
        if case.name == "feeder_reads_ahead" and (result.num_tokens or 0) < 1_600_000:
            yield f"only {result.num_tokens} tokens were counted"
        allowed = 1.1 * BUDGET_SECONDS + max(1.005 * BUDGET_SECONDS, 2 * SUBMIT_SECONDS)
        if (
            case.name.startswith("time_")
            and str(result.outcome) == "ok"
            and (result.train_seconds or 0) > allowed
        ):
            yield f"trained for {result.train_seconds:.2f} s"
        if bounds := re.search(r"^memory_mb: (\d+) (\d+)$", case.text, re.MULTILINE):
            low, high = map(int, bounds.groups())
            if not low <= (result.peak_memory_mb or 0.0) <= high:
                yield f"{result.peak_memory_mb} MB were metered"
        if len(result.log_tail) > 20_000 or len(result.detail) > 600 or len(result.curve) > 600:
            yield "too much is handed on"


def survivors(mark: str) -> list[int]:
    """Return the processes that carry `mark` in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (
                folder.name != str(os.getpid())
                and mark.encode() in (folder / "cmdline").read_bytes()
            ):
                found.append(int(folder.name))
    return found


@contextlib.contextmanager
def make_world() -> Iterator[World]:
    """Make a world in a temporary folder, and remove it."""
    before = dict(os.environ)
    root = Path(tempfile.mkdtemp(prefix="world-")).resolve()
    world = World(root)
    try:
        yield world
    finally:
        world.close()
        shutil.rmtree(root, ignore_errors=True)
        os.environ.clear()
        os.environ.update(before)


def show(row: Row) -> str:
    """Return one line of the table."""
    state = "as expected" if not row.problems else "WRONG: " + "; ".join(row.problems)
    score = f"{row.score:.4f}" if row.score is not None else "-"
    return f"{row.name:<32} {row.backend:<11} {row.outcome:<8} {row.reason:<16} {score:>8} {row.seconds:6.1f}  {state}"


def main() -> int:
    """Run the zoo and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="all", choices=["all", *BACKENDS])
    parser.add_argument("--only", nargs="*", default=[], help="words of names")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="some of each kind, each under one backend, the backends in turn",
    )
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time")
    options = parser.parse_args()
    names = list(BACKENDS) if options.backend == "all" else [options.backend]
    sandboxes = [found.sandbox for name in names if (found := probe(name)).sandbox is not None]
    cases = [c for c in read_cases() if not options.only or any(w in c.name for w in options.only)]
    rows: list[Row] = []
    started = time.monotonic()
    head = ("cheat", "sandbox", "verdict", "reason", "val_bpb", "s")
    print("{:<32} {:<11} {:<8} {:<16} {:>8} {:>6}".format(*head))
    with make_world() as world:
        todo = (
            list(zip(chosen(cases), cycle(sandboxes), strict=False))
            if options.quick
            else [(case, sandbox) for sandbox in sandboxes for case in cases]
        )
        with ThreadPoolExecutor(options.jobs) as pool:
            for row in pool.map(lambda pair: world.run(*pair), todo):
                rows.append(row)
                print(show(row), flush=True)
    wrong = [row for row in rows if row.problems]
    total = time.monotonic() - started
    print(
        f"{len(rows)} trials, {len(wrong)} not as expected, {total:.0f} s, sandboxes: {[s.name for s in sandboxes]}"
    )
    return 1 if wrong or not rows else 0


def _listen(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen()
    return listener


if __name__ == "__main__":
    sys.exit(main())
