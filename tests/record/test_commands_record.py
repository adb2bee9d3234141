"""The verbs of the record on the command line: exit code, stdout and stderr."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from record_support import Night, git
from typer.testing import CliRunner, Result

import autoresearch
from autoresearch.commands import State, as_verb
from autoresearch.commands.log import log
from autoresearch.commands.revert import revert
from autoresearch.commands.share import export, push
from autoresearch.commands.steer import pause, resume, stop
from autoresearch.errors import UsageError, WorkError
from autoresearch.record.record import Record
from autoresearch.rundir import control
from autoresearch.rundir.control import Request

Call = Callable[..., Result]


@pytest.fixture
def call(night: Night, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return what calls one verb in the run directory."""
    monkeypatch.chdir(night.root)
    app = typer.Typer()
    app.callback()(lambda: None)
    for verb in (revert, push, export, stop, pause, resume, log):
        app.command(verb.__name__)(as_verb(verb))

    def run(*args: str, state: State | None = None) -> Result:
        arguments: Sequence[str] = args
        result = CliRunner().invoke(app, arguments, obj=state or State())
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def _json(result: Result) -> Any:
    return json.loads(result.stdout)


def test_revert_needs_yes_where_nobody_can_be_asked(night: Night, call: Call) -> None:
    night.try_out(night.knob(3, 33))
    tip = night.record.tip()
    with pytest.raises(UsageError, match="asks before") as caught:
        call("revert", "1")
    assert "--yes" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="asks before"):
        call("revert", "1", "--json")
    assert night.record.tip() == tip
    result = call("revert", "1", "--yes")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Revert #1: change a knob" in result.stderr
    assert night.record.session().best == 0


def test_a_dry_revert_prints_a_patch_and_writes_nothing(night: Night, call: Call) -> None:
    night.try_out(night.knob(3, 33))
    (night.root / "train.py").write_text("# mine\n")
    git(night.root, "commit", "-qam", "mine, not yet noticed")
    before = git(night.root, "for-each-ref")
    with pytest.raises(WorkError, match="cannot be undone alone: a commit that is not"):
        call("revert", "1", "--dry-run")
    git(night.root, "revert", "--no-edit", "HEAD")
    result = call("revert", "#1", "-n")
    assert result.stdout.startswith("diff --git a/train.py b/train.py\n")
    assert "-KNOB_03 = 33\n+KNOB_03 = 3\n" in result.stdout
    assert "would make one commit on autoresearch/nov21" in result.stderr
    result = call("revert", "--to", "baseline", "-n", "--json")
    assert _json(result)["undone"] == [1]
    assert _json(result)["commit"] is None
    assert "refs/autoresearch/nov21/journal" in before
    journal = "refs/autoresearch/nov21/journal"
    assert git(night.root, "rev-parse", journal) in before


def test_revert_wants_one_thing(night: Night, call: Call) -> None:
    for args in ((), ("1", "--to", "0")):
        with pytest.raises(UsageError, match="name one experiment"):
            call("revert", *args)


def test_revert_to_a_state_as_json(night: Night, call: Call) -> None:
    first = night.try_out(night.knob(3, 33))
    night.try_out(night.knob(4, 44))
    value = _json(call("revert", "--to", "1", "--yes", "--json"))
    assert value["undone"] == [2]
    assert value["to"] == f"#1 ({first.commit[:12]})"
    assert value["commit"] == night.record.tip()


def test_push_says_what_was_sent_and_how_to_read_it(
    night: Night, call: Call, tmp_path: Path
) -> None:
    git(tmp_path, "init", "-q", "--bare", "r.git")
    git(night.root, "remote", "add", "backup", str(tmp_path / "r.git"))
    result = call("push", "backup")
    assert "sent session nov21 to `backup`" in result.stderr
    assert (
        "in a clone: `git fetch --no-prune origin 'refs/autoresearch/*:refs/autoresearch/*'`"
        " and `git switch autoresearch/nov21`\n"
    ) in result.stderr
    assert "has all of session nov21 already" in call("push", "backup").stderr
    assert _json(call("push", "backup", "--json"))["changed"] == []


def test_export_prints_the_folder(night: Night, call: Call, tmp_path: Path) -> None:
    result = call("export", "best", "-o", str(tmp_path / "out"))
    assert result.stdout == f"{tmp_path / 'out'}\n"
    assert "without the weights" in result.stderr
    assert (tmp_path / "out" / "train.py").is_file()
    value = _json(call("export", "baseline", "--json"))
    assert value["experiment"] == 0
    assert "train.py" in value["files"]


def test_there_is_nothing_to_stop_where_nothing_runs(call: Call) -> None:
    for verb in ("stop", "pause", "resume"):
        with pytest.raises(WorkError, match=f"nothing to {verb}: no session runs"):
            call(verb)


def test_requests_reach_the_running_session(night: Night, call: Call) -> None:
    where = night.record.run_directory
    with night.record.presence.lock():
        assert "pauses after the current trial" in call("pause").stderr
        assert control.poll(where) is Request.PAUSE
        assert night.record.session().state == "running"  # until the loop sees it
        assert "resumes" in call("resume").stderr
        assert control.poll(where) is None
        assert "was not paused" in call("resume").stderr
        assert _json(call("stop", "--json"))["pid"] == os.getpid()
        assert control.poll(where) is Request.STOP
        assert "ends now" in call("stop", "--now").stderr
        assert control.poll(where) is Request.STOP_NOW


HOLD = """
import time
from pathlib import Path
from autoresearch.rundir import control
from autoresearch.record.record import Record
from autoresearch.paths import RunDirectory
with Record.open(RunDirectory(Path("."))) as record, record.presence.lock():
    print("held", flush=True)
    while control.poll(record.run_directory) is None:
        time.sleep(0.05)
"""


def test_stop_waits_for_the_end(night: Night, call: Call) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(autoresearch.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        cwd=night.root,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        result = call("stop", "--now", "--wait")
        assert "session nov21 ended" in result.stderr
        assert process.wait(60) == 0


def test_sessions_are_listed_with_state_and_best(
    night: Night, make_record: Callable[..., Record], call: Call
) -> None:
    night.try_out(night.knob(3, 33))
    night.end()
    make_record(tag="dec24")
    header, *rows = [line.split("\t") for line in call("log", "--sessions").stdout.splitlines()]
    found = [dict(zip(header, row, strict=True)) for row in rows]
    assert [(r["session"], r["state"], r["kept"], r["best_score"], r["best"]) for r in found] == [
        ("nov21", "finished", "1", "1.4", "1"),
        ("dec24", "new", "0", "", ""),
    ]
    listed = _json(call("log", "--sessions", "--json"))["sessions"]
    assert [s["session"]["tag"] for s in listed] == ["nov21", "dec24"]
    assert listed[0]["summary"]["best_score"] == 1.4


def test_log_writes_the_five_columns(night: Night, call: Call) -> None:
    for knob in range(25):
        night.try_out(night.knob(knob % 20, 100 + knob), "a\tb", keep=False)
    lines = call("log", "--tsv").stdout.splitlines()
    assert lines[0] == "commit\tval_bpb\tmemory_gb\tstatus\tdescription"
    assert len(lines) == 27
    assert lines[-1].endswith("\t1.400000\t2.0\tdiscard\ta b")
    assert len(call("log", "--tsv", "-n", "3").stdout.splitlines()) == 4
    with pytest.raises(UsageError, match="exclude each other"):
        call("log", "--tsv", "--watch")
