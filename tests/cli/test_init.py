"""`init`: the questions on a terminal, its flags, and the lines to type next."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typed import on_terminal

from autoresearch.cli import main
from autoresearch.config import load_config
from autoresearch.paths import RunDirectory
from autoresearch.rundir.trust import untrusted


def changed(folder: Path) -> dict[str, Any]:
    """What the settings say, and that nothing of it needs to be trusted first."""
    where = RunDirectory(folder)
    assert untrusted(where, load_config(where)) == []
    return load_config(where).changed()


@pytest.mark.parametrize(
    ("flags", "settings", "says"),
    [
        ([], {}, "ideas come from `search`, an optimiser over the constants of train.py: free"),
        (["--proposer", "search"], {}, "For an agent: `autoresearch run --proposer claude`"),
        (
            ["--proposer", "claude", "--key-env", "MY_KEY"],
            {"kind": "command", "command": ["claude"], "pass_env": ["MY_KEY"]},
            "ideas come from `claude`, with its own sign-in\n",
        ),
        (
            ["--proposer", "openai/gpt-5.2", "--key-env", "MY_KEY"],
            {"kind": "llm", "model": "openai/gpt-5.2", "api_key_env": "MY_KEY"},
            "ideas come from `openai/gpt-5.2`; `MY_KEY` is not set\n",
        ),
        (
            ["--proposer", "ollama_chat/qwen3-coder"],
            {"kind": "llm", "model": "ollama_chat/qwen3-coder"},
            "ideas come from `ollama_chat/qwen3-coder` on this machine\n",
        ),
    ],
)
def test_who_proposes_is_written_down_and_said(
    flags: list[str],
    settings: dict[str, Any],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["init", str(tmp_path / "lab"), "--preset", "cpu", *flags]) == 0
    assert says in capsys.readouterr().err
    found = changed(tmp_path / "lab")
    assert {
        k.partition(".")[2]: v for k, v in found.items() if k.startswith("proposer")
    } == settings


def test_the_text_is_that_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "lab", "--preset", "cpu", "--source", "text.txt"]) == 0
    assert changed(tmp_path / "lab")["data.source"] == str(tmp_path / "text.txt")


def test_a_choice_that_comes_too_late_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("claude", "codex"):
        assert main(["init", str(tmp_path / "lab"), "--preset", "cpu", "--proposer", name]) == 0
    assert "`--proposer codex` has no effect on autoresearch.toml: there" in capsys.readouterr().err
    assert changed(tmp_path / "lab")["proposer.command"] == ["claude"]
    assert main(["init", str(tmp_path / "b"), "--key-env", "KEY"]) == 2
    assert "`--key-env KEY` has no effect: `search` proposes" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_the_next_line_can_be_pasted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "my run"), "--preset", "cpu"]) == 0
    line = capsys.readouterr().err.splitlines()[-1].removeprefix("next: `").removesuffix("`")
    words = shlex.split(line)
    assert words[:3] == ["cd", str(tmp_path / "my run"), "&&"]
    assert [words[i + 1] for i, word in enumerate(words) if word == "autoresearch"] == [
        "prepare",
        "run",
    ]


def test_a_folder_needs_no_name_where_it_is_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thesis.tex").write_text("x")
    assert main(["init"]) == 2
    assert "hint: `autoresearch init myrun`, or `autoresearch init .`" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "thesis.tex").unlink()
    assert main(["init", "--preset", "cpu"]) == 0
    assert main(["init"]) == 0
    assert (tmp_path / "train.py").is_file()


def test_a_branch_that_is_left_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in ("init -q -b master", "commit -q --allow-empty -m mine"):
        subprocess.run(["git", *words.split()], check=True)
    assert main(["init", ".", "--preset", "cpu", "--tag", "t"]) == 0
    said = "branch autoresearch/t, from master: `git switch master` returns\n"
    assert said in capsys.readouterr().err
    subprocess.run(["git", "switch", "-q", "master"], check=True)
    assert not (tmp_path / "train.py").exists()
    assert main(["init", ".", "--preset", "cpu", "--tag", "t2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left"] == "master"


def test_the_questions_on_a_terminal(tmp_path: Path) -> None:
    typed = "gpt\nanthropic/claude-sonnet-4-5\nMY_KEY\nbuiltin:python\n"
    code, shown = on_terminal(["init", "lab"], typed, tmp_path)
    assert code == 0, shown
    assert b"`gpt` is no proposer" in shown
    found = changed(tmp_path / "lab")
    assert found["proposer.model"] == "anthropic/claude-sonnet-4-5"
    assert found["proposer.api_key_env"] == "MY_KEY"
    assert found["data.source"] == "builtin:python"
