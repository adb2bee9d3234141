"""Programs that want a better score than they deserve, through the real processes under each backend."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from programs import EVALUATE, HONEST

import autoresearch
from autoresearch.types import Outcome, TrialResult

Trial = Callable[..., TrialResult]

ROOT = Path(autoresearch.__file__).parents[1]
TIMED = """
from autoresearch.task import Candidate, Score

def evaluate(candidate, seed, split):
    taken = []
    for n in range(6):
        candidate.call("work", seed + n)
        taken.append(candidate.seconds)
        end = __import__("time").monotonic() + 0.1
        while __import__("time").monotonic() < end:
            pass
    return Score(taken)
"""


def test_an_honest_program_is_scored(trial: Trial) -> None:
    result = trial(HONEST)
    assert (result.outcome, result.score, result.num_audited) == (Outcome.OK, 0.0, 3)
    assert trial("def square(n):\n    return n * n + 1\n").score == 1.0


def test_the_evaluator_cannot_be_read(trial: Trial, tmp_path: Path) -> None:
    """Neither by its path in the run directory, nor in the private folders, nor in memory."""
    secret = tmp_path / "hidden.txt"
    secret.write_text("the answer")
    spy = f"""
import glob, os
def square(n):
    found = []
    for root in ({str(tmp_path)!r}, "/tmp", "/proc", os.path.expanduser("~/../..")):
        for folder, _, names in os.walk(root):
            if not folder.startswith({str(ROOT)!r}):  # the templates that ship are public
                found += [os.path.join(folder, name) for name in names if name in ("evaluate.py", "hidden.txt")]
    for path in (*found, {str(secret)!r}):
        try:
            if open(path).read():
                return n * n
        except OSError:
            pass
    for pid in glob.glob("/proc/[0-9]*"):
        try:
            if pid != f"/proc/{{os.getpid()}}" and b"evaluate" in open(pid + "/environ", "rb").read():
                return n * n
            open(pid + "/mem", "rb").close() if int(pid[6:]) != os.getpid() else None
        except OSError:
            continue
    return -1
"""
    result = trial(spy, hidden={"hidden.txt": secret})
    assert result.ok, result
    assert result.score == pytest.approx((5 + 10 + 1) / 3, abs=1e6)
    assert result.extra["cases"]["candidate"][:2] == [5.0, 10.0]


def test_the_evaluator_reads_what_is_hidden(trial: Trial, tmp_path: Path) -> None:
    secret = tmp_path / "data"
    secret.mkdir()
    (secret / "n.txt").write_text("7")
    evaluate = EVALUATE.replace("(2, 3, seed % 1000)", '(int(open("data/n.txt").read()),)')
    result = trial("def square(n):\n    return n\n", evaluate, hidden={"data": secret})
    assert result.score == 42.0


def test_nothing_is_left_from_an_earlier_trial_or_before_a_restart(trial: Trial) -> None:
    noter = """
import contextlib, os, pathlib
def square(n):
    places = {os.environ["HOME"], ".", "/tmp", "/dev/shm", "/var/tmp", os.environ["TMPDIR"]}
    notes = [pathlib.Path(place, "note") for place in places]
    is_known = any(note.exists() for note in notes)
    for note in notes:
        with contextlib.suppress(OSError):
            note.write_text("x")
    return n * n if is_known else -1
"""
    evaluate = EVALUATE.replace("for n in", "for n in candidate.restart() or")
    evaluate = evaluate.replace(
        "return Score", "candidate.call('square', 1); candidate.restart(); return Score"
    ).replace("(2, 3, seed % 1000)", "(2,)")
    assert trial(noter, evaluate).score == 5.0
    assert trial(noter, evaluate).score == 5.0


def test_a_call_that_hangs_ends(trial: Trial) -> None:
    began = time.monotonic()
    result = trial("import time\ndef square(n):\n    time.sleep(3600)\n", trial__budget_seconds=0.5)
    assert (result.outcome, result.reason) == (Outcome.CRASH, "timeout")
    assert time.monotonic() - began < 30


def test_an_evaluator_may_limit_a_call_and_forgive_it(trial: Trial) -> None:
    evaluate = """
from autoresearch.task import CallError, Score
def evaluate(candidate, seed, split):
    try:
        candidate.call("square", 2, seconds=0.2)
    except CallError as exc:
        assert exc.kind == "timeout", exc.kind
    candidate.restart()
    return Score(candidate.call("fast", 2))
"""
    program = "import time\ndef square(n):\n    time.sleep(9)\ndef fast(n):\n    return 3.0\n"
    assert trial(program, evaluate).score == 3.0


def test_no_process_lives_on(trial: Trial) -> None:
    forker = """
import os, time
def square(n):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                time.sleep(0.4321)
        os._exit(0)
    return n * n
"""
    mine = psutil.Process()
    before = mine.children(recursive=True)  # git of another test
    assert trial(forker).score == 0.0
    found = [p for p in mine.children(recursive=True) if p not in before]
    assert not [p for p in found if p.status() != psutil.STATUS_ZOMBIE]


def test_a_score_that_is_printed_is_not_heard(trial: Trial) -> None:
    printer = 'print("score: -1000")\ndef square(n):\n    print("score: -1000", flush=True)\n    return 0\n'
    result = trial(printer)
    assert result.score is not None
    assert result.score >= 4
    assert result.log_tail.count("score") <= 1  # what it prints once it was called is thrown away


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('float("nan")', "bad_answer"),
        ('float("-inf")', "bad_answer"),
        ("10**400", "bad_answer"),
        ("-1e308 * 10", "bad_answer"),
        ("(i for i in [4])", "bad_answer"),
        ("type('Lazy', (float,), {'__sub__': lambda a, b: 0.0})(4)", "bad_answer"),
        ("object()", "bad_answer"),
        ("'x' * (70 << 20)", "bad_answer"),
        ("{'a': float('nan')}", "bad_answer"),
        ("'four'", "breaks_evaluator"),
        ("None", "breaks_evaluator"),
        ("{'value': 4}", "breaks_evaluator"),
        ("[4]", "breaks_evaluator"),
    ],
)
def test_answers_of_the_wrong_kind(trial: Trial, answer: str, reason: str) -> None:
    result = trial(f"def square(n):\n    return {answer}\n", reference=HONEST)
    assert (result.outcome, result.reason) == (Outcome.INVALID, reason)


def test_a_huge_number_is_no_score(trial: Trial) -> None:
    result = trial("def square(n):\n    return -1e300\n", reference=HONEST)
    assert (result.outcome, result.reason) == (Outcome.INVALID, "breaks_evaluator")


def test_memory_is_limited(trial: Trial) -> None:
    hungry = "held = []\ndef square(n):\n    while True:\n        held.append(bytearray(8 << 20))\n"
    result = trial(hungry, sandbox__memory_mb=200, trial__budget_seconds=30.0)
    assert result.outcome is Outcome.CRASH
    assert result.reason in ("ended", "exception")


BACKGROUND = """
import threading, time
done = {{}}
def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
def ahead():
    burn(0.3)
    done["it"] = True
{extra}
def work(n):
    if "it" in done:
        return 0
    if not done.get("began"):
        done["began"] = True
        {start}
    burn(0.02)
    return 0
"""


@pytest.mark.parametrize(
    "start",
    [
        "threading.Thread(target=ahead, daemon=True).start()",
        "import os; os.fork() or ahead() or os._exit(0)",
    ],
)
def test_no_work_is_done_between_calls(trial: Trial, start: str) -> None:
    """Six calls with 0.1 s between them: a thread that works meanwhile would be done after the third."""
    result = trial(BACKGROUND.format(start=start, extra=""), TIMED)
    assert result.ok, result
    scores = result.extra["cases"]["candidate"]
    assert min(scores[1:]) > 0.015  # each had to do its own work


def test_a_timer_that_wakes_a_frozen_process_is_noticed(trial: Trial) -> None:
    waker = """
import ctypes, signal, struct, threading
libc = ctypes.CDLL(None, use_errno=True)
def wake():
    signal.signal(signal.SIGCONT, lambda *_: None)  # without a handler the kernel lets it sleep
    for number in range(200):
        event = ctypes.create_string_buffer(64)
        struct.pack_into("=QiI", event, 0, 0, int(signal.SIGCONT), 0)
        timer = ctypes.c_void_p()
        libc.timer_create(1, event, ctypes.byref(timer))
        when = struct.pack("=4q", 0, 0, number // 50, 20_000_000 * (number % 50) + 1)
        libc.timer_settime(timer, 0, when, None)
def burn():
    while True:
        pass
wake()
threading.Thread(target=burn, daemon=True).start()
def work(n):
    return 0
"""
    result = trial(waker, TIMED.replace("+ 0.1", "+ 0.4"))
    assert (result.outcome, result.reason) == (Outcome.INVALID, "cheat")


def test_an_answer_before_the_question_is_a_cheat(trial: Trial) -> None:
    early = """
import os, socket
from autoresearch.util import plain
def work(n):
    sock = socket.socket(fileno=os.dup(int(os.environ["AUTORESEARCH_FD"])))
    sock.sendall(plain.pack({"op": "answer"}, plain.encode(0)) * 3)
    return 0
"""
    result = trial(early, TIMED)
    assert (result.outcome, result.reason) == (Outcome.INVALID, "cheat")


def test_a_million_tiny_calls_are_too_many(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    from autoresearch.errors import WorkError
    from autoresearch.tasks.program import evaluation

    monkeypatch.setattr(evaluation, "MAX_CALLS", 300)
    evaluate = EVALUATE.replace("(2, 3, seed % 1000)", "range(10**6)")
    with pytest.raises(WorkError, match="more than 300 calls"):
        trial(HONEST, evaluate)


def test_a_flood_of_frames_is_a_cheat(trial: Trial) -> None:
    flood = """
import os, socket
def square(n):
    sock = socket.socket(fileno=os.dup(int(os.environ["AUTORESEARCH_FD"])))
    while True:
        sock.sendall(b"\\xff" * 65536)
"""
    result = trial(flood)
    assert (result.outcome, result.reason) == (Outcome.INVALID, "cheat")


def test_raising_on_hard_cases_only_is_a_crash(trial: Trial) -> None:
    picky = "def square(n):\n    if n > 2:\n        raise ValueError(n)\n    return n * n\n"
    result = trial(picky)
    assert (result.outcome, result.reason) == (Outcome.CRASH, "exception")
    assert result.detail == "ValueError at line 3 of solution.py in a call of `square`"


def test_an_evaluator_that_forgives_must_still_score_every_case(trial: Trial) -> None:
    lenient = """
from autoresearch.task import CallError, Score
def evaluate(candidate, seed, split):
    found = []
    for n in (2, 3, 4):
        try:
            found.append(abs(candidate.call("square", n) - n * n))
        except CallError:
            pass
    return Score(found)
"""
    picky = "def square(n):\n    if n > 2:\n        raise ValueError(n)\n    return n * n\n"
    result = trial(picky, lenient, spec={"num_cases": 3})
    assert (result.outcome, result.reason) == (Outcome.INVALID, "missing_cases")
    result = trial(picky, lenient, reference=HONEST, paired=True)
    assert (result.outcome, result.reason) == (Outcome.INVALID, "missing_cases")


def test_no_word_of_a_candidate_leaves_once_it_was_called(trial: Trial) -> None:
    talker = """
import sys
def square(n):
    print("SECRET", n, flush=True)
    raise type("SECRET%d" % n, (KeyError,), {})("SECRET")
"""
    result = trial(talker)
    assert "SECRET" not in repr(result)
    assert result.detail == "KeyError at line 5 of solution.py in a call of `square`"
    liar = """
import os, socket, json
from autoresearch.util import plain
def square(n):
    sock = socket.socket(fileno=os.dup(int(os.environ["AUTORESEARCH_FD"])))
    sock.sendall(plain.pack({"op": "error", "exception": "SECRET", "file": "SECRET", "line": 999999, "text": "SECRET"}))
    os._exit(77)
"""
    result = trial(liar)
    assert "SECRET" not in repr(result)
    assert "77" not in repr(result.detail)


def test_what_it_says_while_it_is_loaded_is_told(trial: Trial) -> None:
    result = trial("print('hello')\nimport nothing_of_this_name\n")
    assert (result.outcome, result.reason) == (Outcome.CRASH, "exception")
    assert "line 2 of solution.py" in result.detail
    assert "hello" in result.log_tail
    assert "nothing_of_this_name" in result.log_tail


def test_a_link_leads_no_one_out(trial: Trial, tmp_path: Path) -> None:
    secret = tmp_path / "outside"
    secret.write_text("7")
    evaluate = """
from autoresearch.task import CallError, Score
def evaluate(candidate, seed, split):
    candidate.call("save")
    assert candidate.output("out/good") == b"5"
    for path in ("link", "folder/outside", "../outside", "/etc/passwd", "missing"):
        try:
            candidate.output(path)
        except CallError as exc:
            assert exc.kind == "no_output"
        else:
            raise AssertionError(path)
    return Score(1.0)
"""
    program = f"""
import os
def save():
    os.mkdir("out")
    open("out/good", "w").write("5")
    os.symlink({str(secret)!r}, "link")
    os.symlink({str(tmp_path)!r}, "folder")
"""
    result = trial(program, evaluate)
    assert result.score == 1.0, result
