"""The command line as scripts see it: exit codes, which stream says what, JSON errors."""

import json
import subprocess
from pathlib import Path

import pytest

from autoresearch import __version__
from autoresearch.cli import VERBS, main
from autoresearch.commands.demo import MARK
from autoresearch.errors import UsageError

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
    assert err == ""


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["log", "--nonsense"], ["run", "--hours", "x"]]
)
def test_a_wrong_command_line_is_exit_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err


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
    assert err == (
        f"error: no run directory at `{tmp_path}`\n\n"
        "hint: make one with `autoresearch init myrun`, then `cd myrun`\n"
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
        "`--preset cpu` has no effect on train.py: there already; name a new folder to have it"
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
def test_a_wrong_value_of_a_flag_names_the_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--show-config", "--proposer", "gpt"]) == 2
    err = capsys.readouterr().err
    assert "error: the flag for `proposer.kind`: input should be 'search'" in err


@pytest.mark.usefixtures("lab")
def test_show_config_says_where_each_value_came_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTORESEARCH_DECISION_POLICY", "strict")
    assert main(["run", "--show-config", "--json", "--hours", "8"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["session.hours"] == {"value": 8.0, "source": "flags"}
    assert shown["decision.policy"]["source"] == "AUTORESEARCH_DECISION_POLICY"
    assert shown["trial.budget_seconds"]["source"] == "autoresearch.toml"
    assert shown["judge.audit_share"]["source"] == "default"


@pytest.mark.usefixtures("lab")
def test_run_before_prepare_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 3
    assert "hint: run `autoresearch prepare`" in capsys.readouterr().err


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


def test_a_demo_is_never_made_in_a_folder_of_somebody_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    assert main(["demo", str(tmp_path / "thesis")]) == 2
    assert "exists and is not a demo" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]
