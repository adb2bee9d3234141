"""The command line as scripts see it: exit codes, which stream says what, JSON errors."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

import autoresearch
from autoresearch import __version__
from autoresearch.cli import EXAMPLES, MEANT, VERBS, app, main
from autoresearch.commands import State
from autoresearch.commands.demo import MARK
from autoresearch.commands.run import run_and_show
from autoresearch.errors import Interrupted, UsageError
from autoresearch.paths import RunDirectory
from autoresearch.record.record import Record
from autoresearch.rundir.glance import glance
from autoresearch.session.context import Limits
from autoresearch.session.run import RunOptions

ALL_VERBS = [verb for verbs in VERBS.values() for verb in verbs]


def test_version_is_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"autoresearch {__version__}\n", "")


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    out, err = capsys.readouterr()
    assert f"autoresearch {verb}" in out
    assert not re.search("<(str|int|float|bool|path)>", out)
    assert err == ""


def test_every_verb_has_an_example_that_parses() -> None:
    assert list(EXAMPLES) == ALL_VERBS
    verbs: Any = typer.main.get_command(app)
    for verb, line in EXAMPLES.items():
        words = shlex.split(line)
        assert words[0] == verb
        with verbs.commands[verb].make_context(verb, words[1:]):
            pass


@pytest.mark.parametrize(("word", "meant"), MEANT.items())
def test_a_word_that_is_no_verb_has_a_hint_with_the_verb(
    word: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word]) == 2
    assert capsys.readouterr().err == (
        f"error: no such command '{word}'\n\nhint: `autoresearch {meant}`\n"
    )
    verbs: Any = typer.main.get_command(app)
    first, *rest = shlex.split(meant)
    if not first.startswith("--"):
        with verbs.commands[first].make_context(first, rest):
            pass


def test_the_status_of_a_session_that_runs_is_read_without_the_lab(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status"]) == 0
    assert capsys.readouterr().out.split()[1:] == ["new", "tried", "0", "keep", "0"]
    (lab / "deeper").mkdir()
    with Record.open(RunDirectory(lab)) as record:
        record.presence.line = lambda: "t running 3"
        assert glance() == ""
        with record.presence.lock():
            record.presence.set_status({})
            assert glance(lab / "deeper") == "t running 3"
            record.presence.set_status({"detail": "paused"})
            assert glance() == "t paused 3"
            said = (lab / ".autoresearch" / "status.json").read_bytes()
        (lab / ".autoresearch" / "status.json").write_bytes(
            said
        )  # as a lab that was killed leaves it
        assert glance() == ""


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["log", "--nonsense"], ["run", "--hours", "x"]]
)
def test_a_wrong_command_line_is_exit_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert (
        f"hint: see `autoresearch{' ' + arguments[0] if len(arguments) > 1 else ''} --help`" in err
    )


@pytest.mark.parametrize("arguments", [["log", "-v"], ["run", "--no-progress"]])
def test_an_option_that_stands_after_the_verb_has_a_hint_with_its_place(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert f"hint: `{arguments[1]}` goes before the verb" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("run --policy strict", "set `[decision] policy` in autoresearch.toml: "),
        ("init --budget 60", "set `[trial] budget_seconds` in autoresearch.toml: Seconds of"),
        ("run --timeout 9", "`[proposer] timeout_seconds` in autoresearch.toml: Seconds one call"),
        ("run --vocab-size 512", "it is an option of `autoresearch prepare`"),
        ("prepare --list --table", "it is an option of `autoresearch log`"),
        ("run --experiment 3", "did you mean `--experiments`?"),
        ("--colr never log", "did you mean `--color`?"),
        ("init x --preset rtx4090", "`24gb`: NVIDIA GPU with 20 to 70 GB"),
        ("init x --preset a100", "A100 40GB); or `80gb`: NVIDIA GPU with 70 GB or more"),
        ("init x --preset 24gbs", "`24gb`: NVIDIA"),
    ],
)
def test_an_option_that_is_not_there_has_a_hint_with_what_is(
    line: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    assert hint in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "nonsense"], "no such command 'nonsense'"),
        (["--json", "log", "--nonsense"], "no such option: --nonsense"),
        (["log", "--nonsense", "--json"], "no such option: --nonsense"),
        (["--colour", "never", "--json", "log"], "no such option: --colour"),
        (["run", "--hours", "x", "--json"], "invalid value for '--hours'"),
        (["--json"], "missing command"),
    ],
)
def test_a_wrong_command_line_as_json_is_on_stdout(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert error["message"].startswith(message)
    assert (error["kind"], error["exit_code"]) == ("usage", 2)
    assert err == ""


def fail_with(problem: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise problem

    monkeypatch.setattr("autoresearch.commands._common.open_record", fail)


@pytest.mark.parametrize("is_verbose", [False, True])
def test_a_bug_is_one_sentence_and_a_file_to_report(
    is_verbose: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("MY_API_KEY", "sk-secret-99")
    fail_with(ZeroDivisionError("by sk-secret-99\nmore"), monkeypatch)
    assert main([*["-v"] * is_verbose, "note", "x"]) == 1
    err = capsys.readouterr().err
    (file,) = tmp_path.glob("autoresearch-bug-*.txt")
    text = file.read_text()
    assert "error: `note` failed: ZeroDivisionError: by <MY_API_KEY>; this is a bug in" in err
    assert f"hint: report it with `{file}`" in err
    assert ("Traceback" in err) == is_verbose
    assert "in fail" in text
    assert "by <MY_API_KEY>" in text
    assert f"autoresearch {__version__}, Python" in text
    assert "note x\n" in text
    assert "sk-secret-99" not in text


def test_a_bug_as_json_and_without_a_place_for_its_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    fail_with(ZeroDivisionError(), monkeypatch)
    assert main(["--json", "note", "x"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    error = json.loads(out)["error"]
    assert error["message"] == "`note` failed: ZeroDivisionError; this is a bug in autoresearch"
    assert (error["kind"], error["exit_code"]) == ("bug", 1)
    assert "`autoresearch -v` prints" in error["hint"]


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (PermissionError(13, "Permission denied", "/a"), "failed at `/a`: Permission denied"),
        (OSError(18, "Cross-device link", "/a", 0, "/b"), "failed at `/a` and `/b`: Cross-device"),
        (OSError(28, "No space left on device"), "failed: No space left on device"),
        (OSError("of a library"), "failed: of a library"),
        (OSError(), "failed: OSError"),
    ],
)
def test_what_the_system_refuses_is_no_bug(
    problem: OSError,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail_with(problem, monkeypatch)
    assert main(["note", "x"]) == 1
    err = capsys.readouterr().err
    assert f"error: `note` {message}" in err
    assert "bug" not in err
    assert "Traceback" not in err


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["init", str(tmp_path / "file" / "foo")]) == 1
    assert f"failed at `{tmp_path}/file/foo`: Not a directory" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("arguments", [["--version"], ["--json", "nonsense"], ["run", "--help"]])
def test_a_full_disk_behind_stdout_is_told(arguments: list[str]) -> None:
    for unbuffered in ("", "1"):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "autoresearch", *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
                check=False,
            )
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["log", "--help"], ["nonsense"]])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_those_of_dev_null(arguments: list[str], closed: str) -> None:
    line = f'exec "$0" -m autoresearch {" ".join(arguments)} {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", line, sys.executable], capture_output=True, text=True, check=False
    )
    assert done.returncode == (2 if arguments == ["nonsense"] else 0)
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("verb", ["log", "run", "init", "doctor"])
def test_a_folder_that_is_gone(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main([verb]) == 3
    assert "the current folder no longer exists" in capsys.readouterr().err
    assert main(["--version"]) == 0
    table = tmp_path / "f.tsv"
    table.write_text(
        "commit\tval_bpb\tmemory_gb\tstatus\tdescription\na1\t1.5\t1\tkeep\tbaseline\n"
    )
    assert main(["log", "--from", str(table)]) == 0
    assert main(["report", "--from", str(table), "-o", str(tmp_path / "r.html")]) == 0
    assert main(["report", "--from", str(table)]) == 3
    assert "the current folder no longer exists" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)


def test_children_are_waited_for_although_the_parent_ignores_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        monkeypatch.setattr("autoresearch.cli._run", lambda _: subprocess.call(["false"]))
        assert main([]) == 1
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_no_argument_at_all_is_the_help_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert "Usage: autoresearch" in out
    assert err == ""


class Answer:
    """A standard input that answers a question."""

    def __init__(self, answer: str | type[BaseException]) -> None:
        self.answer = answer

    def readline(self) -> str:
        if isinstance(self.answer, str):
            return self.answer
        raise self.answer


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ("n\n", 1, "aborted\n"),
        ("", 1, "\naborted\n"),
        (KeyboardInterrupt, 130, "\ninterrupted\n"),
    ],
    ids=["no", "end of input", "ctrl-c"],
)
def test_a_question_without_a_yes(
    answer: str | type[BaseException],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ask(_: object) -> None:
        typer.confirm("Go on?", abort=True, err=True)

    monkeypatch.setattr("autoresearch.commands._common.open_record", ask)
    monkeypatch.setattr("sys.stdin", Answer(answer))
    assert main(["note", "x"]) == code
    assert capsys.readouterr().err.endswith(said)


def test_ctrl_c_is_exit_130_and_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("autoresearch.commands._common.open_record", interrupt)
    assert main(["note", "x"]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["log"],
        ["show", "1"],
        ["diff"],
        ["report"],
        ["try"],
        ["run"],
        ["revert", "1"],
        ["note", "x"],
        ["prepare"],
    ],
    ids=lambda a: a[0],
)
def test_outside_a_run_directory_is_exit_3_with_the_way_out(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 3
    out, err = capsys.readouterr()
    assert out == ""
    more = "; or name a text: `autoresearch prepare --source builtin:python`"
    assert err == (
        f"error: no run directory at `{tmp_path}`\n\n"
        "hint: make one with `autoresearch init myrun && cd myrun`"
        f"{more if arguments == ['prepare'] else ''}\n"
    )


@pytest.mark.parametrize("arguments", [["--json", "log"], ["log", "--json"]])
def test_an_error_as_json_is_on_stdout(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["kind"] == "not_a_run_directory"
    assert err == ""


@pytest.mark.parametrize(
    ("flags", "is_traced"), [([], False), (["-v"], True), (["-vv"], True), (["--verbose"], True)]
)
def test_verbose_adds_the_traceback(
    flags: list[str],
    is_traced: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*flags, "log"]) == 3
    err = capsys.readouterr().err
    assert ("Traceback (most recent call last)" in err) == is_traced
    assert "error: no run directory" in err


@pytest.mark.parametrize(("color", "is_coloured"), [("always", True), ("never", False)])
def test_the_colour_of_an_error_is_the_one_asked_for(
    color: str,
    is_coloured: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("NO_COLOR" if is_coloured else "FORCE_COLOR", "1")
    assert main(["--color", color, "log"]) == 3
    assert ("\x1b[" in capsys.readouterr().err) == is_coloured


def init(folder: Path, *more: str) -> int:
    return main(["init", str(folder), "--preset", "cpu", *more])


@pytest.fixture
def lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    """A fresh run directory, entered."""
    assert init(tmp_path / "lab") == 0
    monkeypatch.chdir(tmp_path / "lab")
    capsys.readouterr()
    return tmp_path / "lab"


def test_init_twice_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(tmp_path / "lab") == 0
    (tmp_path / "lab" / "train.py").write_text("# mine\n")
    (tmp_path / "lab" / "program.md").unlink()
    capsys.readouterr()
    assert init(tmp_path / "lab") == 0
    err = capsys.readouterr().err
    assert "wrote program.md" in err
    assert (tmp_path / "lab" / "train.py").read_text() == "# mine\n"
    assert (tmp_path / "lab" / "program.md").is_file()


def test_init_says_what_had_no_effect_on_files_that_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(tmp_path / "lab") == 0
    assert "no effect" not in capsys.readouterr().err
    before = {p: p.read_bytes() for p in (tmp_path / "lab").iterdir() if p.is_file()}
    assert main(["init", str(tmp_path / "lab")]) == 0
    assert "no effect" not in capsys.readouterr().err
    assert main(["init", str(tmp_path / "lab"), "--preset", "8gb", "--template", "compat"]) == 0
    err = capsys.readouterr().err
    assert "`--preset 8gb` has no effect on train.py and autoresearch.toml: there already" in err
    assert "`--template compat` has no effect on train.py and what belongs to it" in err
    assert before == {p: p.read_bytes() for p in (tmp_path / "lab").iterdir() if p.is_file()}
    (tmp_path / "lab" / "autoresearch.toml").unlink()
    assert init(tmp_path / "lab", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ignored"] == [
        "`--preset cpu` has no effect on train.py and autoresearch.toml: there already; name a new folder to have it"
    ]


def test_a_template_comes_whole_with_its_train_py(tmp_path: Path) -> None:
    assert init(tmp_path / "lab", "--template", "compat") == 0
    assert (tmp_path / "lab" / "kernels.py").is_file()
    (tmp_path / "lab" / "train.py").unlink()
    (tmp_path / "lab" / "kernels.py").unlink()
    assert init(tmp_path / "lab", "--template", "compat") == 0
    assert (tmp_path / "lab" / "train.py").is_file()
    assert (tmp_path / "lab" / "kernels.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--preset", "toaster"], "toaster"),
        (["--template", "toaster"], "toaster"),
        (["--tag", "a/b"], "a/b"),
    ],
)
def test_init_refuses_what_it_does_not_know(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "lab"), *arguments]) == 2
    assert says in capsys.readouterr().err


def test_init_inside_a_repository_says_that_it_nests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".git").mkdir()
    assert init(tmp_path / "lab") == 0
    assert f"inside `{tmp_path}`" in capsys.readouterr().err


@pytest.mark.usefixtures("lab")
def test_a_session_that_is_not_there_is_begun_as_the_hint_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "--dry-run", "--tag", "brandnew"]) == 3
    assert "begin it with `autoresearch init . --tag brandnew`; sessions here: `" in (
        capsys.readouterr().err
    )
    assert main(["init", ".", "--tag", "brandnew"]) == 0
    assert main(["run", "--dry-run", "--tag", "brandnew"]) == 0


@pytest.mark.usefixtures("lab")
def test_log_before_any_experiment_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert "no experiment yet" in err


def test_a_wrong_setting_names_file_key_and_the_nearest(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (lab / "autoresearch.toml").open("a") as file:
        file.write("\n[decision]\nbaseline_trails = 4\n")
    assert main(["run", "--show-config"]) == 2
    err = capsys.readouterr().err
    assert "`autoresearch.toml`" in err
    assert "`decision.baseline_trails`" in err
    assert "did you mean `decision.baseline_trials`?" in err


@pytest.mark.usefixtures("lab")
def test_a_wrong_setting_in_the_environment_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTORESEARCH_TRIAL_BUDGET_SECOND", "5")
    assert main(["run", "--show-config"]) == 2
    err = capsys.readouterr().err
    assert "`AUTORESEARCH_TRIAL_BUDGET_SECOND`" in err
    assert "did you mean `AUTORESEARCH_TRIAL_BUDGET_SECONDS`?" in err


@pytest.mark.usefixtures("lab")
def test_a_setting_that_was_removed_is_named_as_such(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTORESEARCH_TRIAL_HUNG_SECONDS", "5")
    assert main(["run", "--show-config"]) == 2
    err = capsys.readouterr().err
    assert "`AUTORESEARCH_TRIAL_HUNG_SECONDS`: `trial.hung_seconds` is no longer a setting" in err
    assert "hint: unset the variable" in err


@pytest.mark.usefixtures("lab")
def test_a_wrong_value_of_a_flag_names_the_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--show-config", "--ahead", "9"]) == 2
    err = capsys.readouterr().err
    assert "error: the flag for `proposer.ahead`: input should be less than or equal to 8" in err
    assert "hint: `proposer.ahead`: Proposals prepared while a trial runs." in err


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (
            "[trial]\nbudget_seconds = 0",
            "correct it in `autoresearch.toml`; `trial.budget_seconds`: Seconds of training in a trial,",
        ),
        ("[sandbox]\nzzz = 1", "known ones: `sandbox.backend`, `sandbox.disk_mb`,"),
        ("[storage]\nmax_weights_mb = 1", "delete the line"),
        ("[trial]\neval_tokens = 1", "did you mean `judge.eval_tokens`?"),
        ("[trial]\nhung_seconds = 9", "delete the line"),
        ("[zzz]\nx = 1", "known ones: `data`, `decision`, `judge`, `proposer`, `sandbox`,"),
        ("[trial", "it takes `[section]` lines and `name = value` lines"),
    ],
)
def test_a_wrong_setting_is_told_with_what_would_be_right(
    text: str, hint: str, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab / "autoresearch.toml").write_text(text)
    assert main(["run", "--show-config"]) == 2
    assert f"hint: {hint}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "flags", "who"),
    [
        ("", [], "`search`"),
        ("mix = {search = 0.7, llm = 0.0}", [], "`search`"),
        ('kind = "llm"', ["--proposer", "search"], "`search`"),
        ('kind = "command"\ncommand = ["./agent.sh"]', [], "`command`"),
    ],
)
def test_a_model_that_nobody_asks_is_refused(
    settings: str, flags: list[str], who: str, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab / "autoresearch.toml").write_text(f"[proposer]\n{settings}\n")
    assert main(["run", "--model", "foo/bar", *flags]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: `--model foo/bar` has no effect: {who} asks no model\n")
    assert "`autoresearch run --proposer llm --model foo/bar`" in err
    assert ("`{model}`" in err) == (who == "`command`")


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        ("", ["--proposer", "llm"]),
        ("mix = {search = 0.7, llm = 0.3}", []),
        ("mix = {search = 0.7, command = 0.3}", ["--proposer", "llm"]),
        ('kind = "command"\ncommand = ["claude"]', []),
        ('kind = "command"\ncommand = ["./agent.sh", "{model}"]', []),
    ],
)
def test_a_model_that_somebody_asks_is_taken(
    settings: str, flags: list[str], lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab / "autoresearch.toml").write_text(f"[proposer]\n{settings}\n")
    assert main(["run", "--model", "foo/bar", *flags, "--show-config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["proposer.model"]["value"] == "foo/bar"


def test_the_flag_for_one_proposer_wins_over_a_mix_in_the_file(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab / "autoresearch.toml").write_text("[proposer]\nmix = {command = 1.0}\n")
    assert main(["run", "--dry-run", "--proposer", "search"]) == 0
    assert "`search` proposes next" in capsys.readouterr().out


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize(
    ("name", "kind", "model", "command"),
    [
        ("search", "search", "", []),
        ("claude", "command", "", ["claude"]),
        ("codex", "command", "", ["codex"]),
        ("ollama/qwen3", "llm", "ollama/qwen3", []),
        ("openrouter/qwen/qwen3-coder", "llm", "openrouter/qwen/qwen3-coder", []),
    ],
)
def test_a_proposer_is_called_by_its_name(
    name: str, kind: str, model: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--proposer", name, "--show-config", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    found = [shown[f"proposer.{key}"]["value"] for key in ("kind", "model", "command")]
    assert found == [kind, model, command]


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--proposer", "gpt"], "`gpt` is no proposer\n\nhint: `claude`, `codex`, a model by its"),
        (["--proposer", "gemini"], "`gemini` is no proposer"),
        (["--proposer", "./agent.sh"], "`./agent.sh` is no proposer"),
        (["--proposer", "a/b", "--model", "c/d"], "`--proposer a/b` names the model already"),
        (["--max-cost", "10"], "`--max-cost 10` has no effect: `search` proposes, which costs"),
    ],
)
def test_what_a_run_cannot_mean_is_refused(
    flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--dry-run", *flags]) == 2
    assert capsys.readouterr().err.startswith(f"error: {says}")


@pytest.mark.usefixtures("lab")
def test_a_cost_limit_of_nothing_is_not_taken_for_no_limit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "--max-cost", "0"]) == 2
    assert "to spend nothing: `--proposer search`" in capsys.readouterr().err
    assert main(["run", "--hours", "0", "--experiments", "0", "--show-config"]) == 0


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("command", ['"', "say it's done", "say \\"])
def test_a_command_to_notify_with_an_open_quotation_mark_is_named(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--notify", command]) == 2
    assert capsys.readouterr().err.startswith(f"error: `--notify {command}`: no ")


@pytest.mark.usefixtures("lab")
def test_show_config_says_where_each_value_came_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTORESEARCH_DECISION_POLICY", "strict")
    assert main(["run", "--show-config", "--json", "--hours", "8"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["session.hours"]["value"] == 8.0
    assert shown["session.hours"]["source"] == "flags"
    assert shown["session.hours"]["meaning"].startswith("Stop after this many hours; 0 is")
    assert all(setting["meaning"] for setting in shown.values())
    assert shown["decision.policy"]["source"] == "AUTORESEARCH_DECISION_POLICY"
    assert shown["trial.budget_seconds"]["source"] == "autoresearch.toml"
    assert shown["judge.suspicious_jump"]["source"] == "default"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--show-config"],
        ["run", "--show-config", "--json"],
        ["log", "--sessions"],
        ["--version"],
        ["run", "--help"],
        ["--json", "nonsense"],
        ["--json", "show", "3"],
    ],
    ids=" ".join,
)
def test_a_reader_that_goes_away_ends_what_only_shows(lab: Path, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "autoresearch", *arguments],
        cwd=lab,
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(autoresearch.__file__).parents[1])},
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("reason", "code"),
    [("hours", 0), ("stopped", 0), ("error", 1), ("proposer", 3)],
)
def test_the_exit_code_says_why_the_session_ended(
    lab: Path, reason: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoresearch.session.run.run_session", lambda *_, **__: reason)
    parts: Any = SimpleNamespace(is_unsafe=False)
    with Record.open(RunDirectory(lab)) as record:
        assert run_and_show(State(is_quiet=True), parts, record, RunOptions(Limits())) == code


def test_an_interrupted_session_is_exit_130(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts: Any = SimpleNamespace(is_unsafe=False)
    monkeypatch.setattr("autoresearch.session.build.assemble", lambda *_, **__: parts)
    monkeypatch.setattr("autoresearch.session.run.run_session", lambda *_, **__: "interrupted")
    assert main(["run"]) == 130
    assert "\ncontinue with `autoresearch run --tag" in capsys.readouterr().err
    with Record.open(RunDirectory(lab)) as record, pytest.raises(Interrupted):
        run_and_show(State(), parts, record, RunOptions(Limits()), way="cd 'my lab' && ")
    line = f"continue with `cd 'my lab' && autoresearch run --tag {record.tag}`\n"
    assert line in capsys.readouterr().err


@pytest.mark.usefixtures("lab")
def test_run_before_prepare_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 3
    assert "hint: run `autoresearch prepare`" in capsys.readouterr().err


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("verb", ["log", "run", "confirm", "report"])
def test_the_shell_completes_tags(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", ".", "--tag", "brandnew"]) == 0
    monkeypatch.setenv("_AUTORESEARCH_COMPLETE", "complete_zsh")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", f"autoresearch {verb} --tag b")
    capsys.readouterr()
    assert main([]) == 0
    assert '"brandnew"' in capsys.readouterr().out


@pytest.mark.parametrize("template", ["gpt", "compat"])
def test_what_the_verbs_write_is_not_git_s_business(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert init(tmp_path / "lab", "--template", template, "--tag", "x") == 0
    monkeypatch.chdir(tmp_path / "lab")
    for kind in ("html", "md", "svg", "png"):
        assert main(["report", "--format", kind]) == 0
    export = tmp_path / "lab" / "export-x-0"
    export.mkdir()
    (export / "train.py").write_text("")
    git = ["git", "status", "--porcelain"]
    assert subprocess.run(git, capture_output=True, check=True).stdout == b""


def test_a_lab_with_the_preset_of_the_demo_is_no_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "mine"), "--preset", "demo"]) == 0
    assert "A demo" not in (tmp_path / "mine" / "autoresearch.toml").read_text()
    assert main(["demo", str(tmp_path / "mine")]) == 2
    assert "exists and is not a demo" in capsys.readouterr().err


def test_demo_marks_what_it_makes_and_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise UsageError("as far as this test goes", hint="")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("autoresearch.commands.prepare.prepare_and_show", stop)
    for says in ("making `lab`", "`lab` is a demo already"):
        assert main(["demo", "lab"]) == 2
        assert says in capsys.readouterr().err
        monkeypatch.chdir(tmp_path)
    assert (tmp_path / "lab" / "autoresearch.toml").read_text().startswith(f"# {MARK}\n")


def test_a_demo_is_never_made_in_a_foreign_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    assert main(["demo", str(tmp_path / "thesis")]) == 2
    assert "exists and is not a demo" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]
