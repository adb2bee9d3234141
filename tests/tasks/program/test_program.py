"""The program task: pairs, whose fault a failure is, guards, settings."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from programs import EVALUATE, HONEST, settings

import autoresearch
from autoresearch.errors import WorkError
from autoresearch.sandbox.select import probe
from autoresearch.tasks.program.task import ProgramExecutor
from autoresearch.types import Outcome, TrialResult, TrialSpec

Trial = Callable[..., TrialResult]

RANDOM = """
import random
from autoresearch.task import Candidate, Score

def evaluate(candidate, seed, split):
    draw = random.Random(seed)
    return Score([draw.gauss(0, 10) + candidate.call("offset") for _ in range(8)], figures={"size": [1.0, 2.0, 3.0]})
"""


def test_pairs_meet_the_same_cases(trial: Trial) -> None:
    one, two = "def offset():\n    return 1.0\n", "def offset():\n    return 1.5\n"
    alone = trial(two, RANDOM)
    assert alone.score_se is not None
    assert alone.score_se > 1
    beside = trial(two, RANDOM, reference=one, paired=True, spec={"anchor": 100.0})
    assert beside.score == pytest.approx(100.5, abs=1e-9)
    assert beside.score_se == pytest.approx(0.0, abs=1e-9)
    cases = beside.extra["cases"]
    assert len(cases["candidate"]) == len(cases["reference"]) == 8
    assert beside.extra["reference_score"] == pytest.approx(
        sum(cases["reference"]) / 8, rel=1e-4, abs=1e-4
    )


def test_calls_of_a_pair_alternate(trial: Trial) -> None:
    """Which is called first changes from call to call; so neither is always the one that finds caches cold."""
    evaluate = """
from autoresearch.task import Score
def evaluate(candidate, seed, split):
    return Score([candidate.call("now") for _ in range(6)])
"""
    clock = "import time\ndef now():\n    return time.monotonic()\n"
    cases = trial(clock, evaluate, reference=clock, paired=True).extra["cases"]
    # Written with six digits, the times of a machine that is long awake would be alike.
    assert len(cases["candidate"]) == len(cases["reference"]) == 6


def test_an_evaluator_that_fails_for_the_incumbent_too_is_its_authors_fault(trial: Trial) -> None:
    broken = EVALUATE.replace("return Score", "raise RuntimeError('my own mistake'); return Score")
    for changes in ({}, {"reference": HONEST}, {"reference": HONEST, "paired": True}):
        with pytest.raises(
            WorkError, match=r"(?s)fails, for the incumbent too.*my own mistake"
        ) as caught:
            trial(HONEST, broken, **changes)
        assert "line 5" in caught.value.message


def test_an_evaluator_that_fails_for_the_candidate_alone(trial: Trial) -> None:
    wrong = "def square(n):\n    return {}\n"
    for is_paired in (False, True):
        result = trial(wrong, reference=HONEST, paired=is_paired)
        assert (result.outcome, result.reason) == (Outcome.INVALID, "breaks_evaluator")


@pytest.mark.parametrize(
    ("evaluate", "said"),
    [
        ("def evaluate(candidate, seed, split)\n    return 1\n", "SyntaxError"),
        ("def other():\n    return 1\n", "has no attribute 'evaluate'"),
        ("def evaluate(candidate, seed, split):\n    pass\n", "float"),
        ("def evaluate(candidate, seed, split):\n    return []\n", "has 0 values"),
        ("def evaluate(candidate, seed, split):\n    return 'x'\n", "could not convert"),
        ("import os\ndef evaluate(candidate, seed, split):\n    os._exit(3)\n", "without a score"),
    ],
)
def test_evaluators_that_give_no_score(trial: Trial, evaluate: str, said: str) -> None:
    with pytest.raises(WorkError, match=said):
        trial(HONEST, evaluate)


def test_an_unknown_function_is_said(trial: Trial) -> None:
    result = trial("def cube(n):\n    return 1\n")
    assert result.reason == "unknown_function"
    assert result.detail == "`solution.py` has no function `square`"


def test_a_wrong_answer_is_the_candidates(trial: Trial) -> None:
    strict = EVALUATE.replace("return Score", "raise WrongAnswerError('12'); return Score")
    strict = strict.replace("Candidate, Score", "Score, WrongAnswerError")
    result = trial(HONEST, strict, reference=HONEST)
    assert (result.outcome, result.reason) == (Outcome.INVALID, "wrong_answer")
    assert "12" not in result.detail


@pytest.mark.parametrize(
    ("guards", "reason"),
    [
        ({"size": {"max": 0.5}}, "guard_size"),
        ({"size": {"max": 1.5}}, ""),  # the mean of 1, 2, 3 is 2, and two standard errors are 1.15
        ({"size": {"min": 4.0}}, "guard_size"),
        ({"size": {"worse_by": 0.1}}, "guard_size"),
        ({"size": {"worse_by": 1.5}}, ""),
        ({"memory_mb": {"max": 1}}, "guard_memory_mb"),
        ({"call_ms": {"max": 10_000}}, ""),
    ],
)
def test_guards(trial: Trial, guards: dict[str, dict[str, float]], reason: str) -> None:
    program = "def offset():\n    return 1.0\n"
    result = trial(program, RANDOM, guards=guards, spec={"guarded": {"size": 0.7}})
    assert result.reason == reason
    assert result.ok == (not reason)


def test_a_guard_of_an_unknown_figure(trial: Trial) -> None:
    with pytest.raises(WorkError, match="of which the evaluator gives no figure"):
        trial(HONEST, guards={"latency": {"max": 1}})


def test_a_trial_can_be_stopped(trial: Trial) -> None:
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    result = trial(
        "import time\ndef square(n):\n    time.sleep(60)\n", stop=stop, trial__budget_seconds=60.0
    )
    assert (result.outcome, result.reason) == (Outcome.TAINTED, "stopped")


def test_arrays_and_bytes_arrive_as_they_are(trial: Trial) -> None:
    evaluate = """
import numpy as np
from autoresearch.task import Score
def evaluate(candidate, seed, split):
    value = {"a": np.arange(6, dtype=np.int16).reshape(2, 3), "b": b"\\x00\\xff", "c": [1, 2.5, None, True, "\\u00e9"]}
    found = candidate.call("same", value)
    assert found["a"].dtype == np.int16 and (found["a"] == value["a"]).all() and found["a"].flags.writeable
    assert found["b"] == value["b"] and found["c"] == value["c"]
    assert candidate.seconds > 0 and candidate.num_calls == 1
    return Score(float(found["a"].sum()))
"""
    assert trial("def same(x):\n    return x\n", evaluate).score == 15.0


@pytest.mark.parametrize(
    ("program", "outcome", "reason", "score"),
    [
        ("print('score: 3')\nprint('score: 4.5')\n", Outcome.OK, "", 4.5),
        ("import os\nprint('score:', os.environ['AUTORESEARCH_SEED'])\n", Outcome.OK, "", 1.0),
        ("print('score: nan')\n", Outcome.CRASH, "no_score", None),
        ("print('score: 1e999')\n", Outcome.CRASH, "no_score", None),
        ("print('no number')\n", Outcome.CRASH, "no_score", None),
        ("print('score: 3')\nraise SystemExit(2)\n", Outcome.CRASH, "exception", None),
        (
            "import time\nprint('score: 3', flush=True)\ntime.sleep(60)\n",
            Outcome.CRASH,
            "timeout",
            None,
        ),
    ],
)
def test_a_program_that_prints_its_score(
    backend: str, tmp_path: Path, program: str, outcome: Outcome, reason: str, score: float | None
) -> None:
    tmp_path.chmod(0o755)
    sandbox = probe(backend).sandbox
    assert sandbox is not None
    config = settings(
        metric="from stdout", command=["python", "solution.py"], trial__budget_seconds=2.0
    )
    executor = ProgramExecutor(config, sandbox, None, scratch=tmp_path / "trials")
    budget = 2.0 if reason == "timeout" else 30.0
    spec = TrialSpec({"solution.py": program.encode()}, 1, budget, label="t")
    result = executor.run(spec)
    assert (result.outcome, result.reason, result.score) == (outcome, reason, score)


LAB = """
import sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from programs import HONEST, settings
from autoresearch.sandbox.select import probe
from autoresearch.tasks.program.evaluation import Evaluator
from autoresearch.tasks.program.task import ProgramExecutor
from autoresearch.types import TrialSpec
code = "import time\\ndef evaluate(candidate, seed, split):\\n    candidate.call('square', 2)\\n"
evaluator = Evaluator("evaluate.py", {"evaluate.py": (code + "    time.sleep(60)\\n").encode()})
executor = ProgramExecutor(settings(), probe(sys.argv[1]).sandbox, evaluator, scratch=Path(sys.argv[2]))
executor.run(TrialSpec({"solution.py": HONEST.encode()}, 1, 20.0, label="t"))
"""


def test_a_killed_lab_leaves_no_frozen_process(backend: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    root = Path(autoresearch.__file__).parents[1]
    places = [str(Path(__file__).parent), str(root)]
    lab = subprocess.Popen([sys.executable, "-c", LAB, backend, str(tmp_path / "t"), *places])
    try:
        below: list[psutil.Process] = []
        for _ in range(600):
            below = psutil.Process(lab.pid).children(recursive=True)
            with contextlib.suppress(psutil.NoSuchProcess):
                if any(p.status() == psutil.STATUS_STOPPED for p in below):
                    break
            time.sleep(0.05)
        else:
            raise AssertionError("nothing was frozen")
    finally:
        lab.kill()
        lab.wait()
    _, alive = psutil.wait_procs(below, timeout=30)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
