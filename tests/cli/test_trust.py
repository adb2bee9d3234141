"""A folder from elsewhere is obeyed only once the user has said so."""

import json
import subprocess
from pathlib import Path

import pytest
from typed import on_terminal

from autoresearch.bootstrap.presets import preset_names
from autoresearch.cli import main
from autoresearch.config import load_config
from autoresearch.paths import RunDirectory
from autoresearch.rundir.trust import untrusted

VERBS = [
    ["run"],
    ["try"],
    ["confirm"],
    ["prepare"],
    ["run", "--json"],
    ["run", "--from", "best", "--tag", "x"],
]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with settings and nothing else, and enter it: the question comes before all the rest."""
    (tmp_path / "lab").mkdir()
    _say(tmp_path / "lab", "session.hours = 1")
    monkeypatch.chdir(tmp_path / "lab")
    return tmp_path / "lab"


@pytest.fixture
def made(lab: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Return a run directory that `init` made."""
    assert main(["init", ".", "--preset", "demo", "--tag", "t"]) == 0
    capsys.readouterr()
    return lab


def _say(lab: Path, line: str) -> None:
    """Replace autoresearch.toml, as a clone brings one."""
    section, _, rest = line.partition(".")
    (lab / "autoresearch.toml").write_text(f"[{section}]\n{rest}\n")


@pytest.mark.parametrize("preset", preset_names())
def test_what_init_writes_needs_no_question(preset: str, tmp_path: Path) -> None:
    assert main(["init", str(tmp_path / "lab"), "--preset", preset]) == 0
    where = RunDirectory(tmp_path / "lab")
    assert untrusted(where, load_config(where)) == []


@pytest.mark.parametrize(
    "line",
    [
        'session.notify = ["sh", "-c", "touch ran"]', 'session.push_after_keep = "https://evil.example/x"',
        'proposer.command = ["claude"]', 'proposer.api_base = "http://evil.example"',
        'proposer.api_key_env = "AWS_SECRET_ACCESS_KEY"', 'proposer.pass_env = ["HOME"]',
        'proposer.model = "huggingface/https://evil.example"', 'sandbox.backend = "landlock"',
        'proposer.fallback_models = ["custom/http://evil.example"]',
        'data.source = "/etc"', 'data.source = "../text"', 'data.source = "~/text.txt"', 'data.source = "link"',
        'data.source = "texts"', 'data.source = "texts/*.txt"',
    ],
)  # fmt: skip
def test_a_setting_that_reaches_out_is_asked_for(
    line: str, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab / "link").symlink_to("/etc")
    (lab / "texts").mkdir()
    (lab / "texts" / "a.txt").symlink_to("/etc/passwd")
    _say(lab, line)
    for verb in VERBS:
        assert main(verb) == 3
        out, err = capsys.readouterr()
        said = json.loads(out)["error"] if "--json" in verb else {"message": err, "hint": err}
        assert line in said["message"]
        assert "`autoresearch trust`" in said["hint"]
    assert not (lab / "ran").exists()
    assert main(["trust"]) == 0
    assert capsys.readouterr().out == f"{line}\n"
    where = RunDirectory(lab)
    assert untrusted(where, load_config(where)) == []


@pytest.mark.parametrize(
    "line",
    ['proposer.model = "openai/x"', 'data.source = "builtin:python"', 'data.source = "hf://datasets/a/b"',
     'data.source = "texts"', 'data.source = "texts/*.txt"', "session.hours = 3", 'sandbox.backend = "auto"'],
)  # fmt: skip
def test_a_setting_that_stays_inside_is_not_asked_for(line: str, lab: Path) -> None:
    (lab / "texts").mkdir()
    (lab / "texts" / "a.txt").write_text("a")
    _say(lab, line)
    assert untrusted(RunDirectory(lab), load_config(RunDirectory(lab))) == []


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("program.md", "/etc/passwd"),
        ("program.md", ".git/config"),
        (".autoresearch", ".."),
        (".autoresearch/trials", "../.."),
        (".autoresearch/agents", "/tmp"),
        (".autoresearch/weights/t", "/srv"),
        (".autoresearch/logs/t/0001-000.log", "../../../.git/config"),
    ],
)
def test_a_link_by_which_the_lab_works_elsewhere_is_asked_for(
    name: str, target: str, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = RunDirectory(lab)
    assert untrusted(where, load_config(where)) == []
    (lab / name).parent.mkdir(parents=True, exist_ok=True)
    (lab / name).symlink_to(target)
    assert main(["run"]) == 3
    assert f"{name} -> {target}" in capsys.readouterr().err
    assert main(["trust"]) == 0
    assert untrusted(where, load_config(where)) == []


def test_what_a_child_may_link_is_not_asked_for(lab: Path) -> None:
    where = RunDirectory(lab)
    for folder in (
        where.trials / "0001-x" / "home",
        where.cache / "key" / "a",
        where.state / "agents" / "p",
    ):
        folder.mkdir(parents=True)
        (folder / "link").symlink_to("/etc/passwd")
    assert untrusted(where, load_config(where)) == []


def test_a_link_in_a_circle_leads_nowhere(lab: Path) -> None:
    (lab / "texts").mkdir()
    (lab / "texts" / "a.txt").symlink_to("a.txt")
    _say(lab, 'data.source = "texts"')
    assert untrusted(RunDirectory(lab), load_config(RunDirectory(lab))) == []


def test_a_changed_line_and_another_folder_ask_again(lab: Path, tmp_path: Path) -> None:
    def is_asked(where: Path) -> bool:
        return bool(untrusted(RunDirectory(where), load_config(RunDirectory(where))))

    _say(lab, 'session.notify = ["say"]')
    assert main(["trust"]) == 0
    (lab / "autoresearch.toml").write_text('# a remark\n[session]\nhours = 2\nnotify = ["say"]\n')
    assert not is_asked(lab)
    _say(lab, 'session.notify = ["say", "more"]')
    assert is_asked(lab)
    _say(lab, 'session.notify = ["say"]')
    assert not is_asked(lab)
    lab.rename(tmp_path / "moved")
    assert is_asked(tmp_path / "moved")
    assert list((tmp_path / "moved").rglob("trusted*")) == []


def test_what_the_user_typed_is_trusted(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _say(lab, 'proposer.command = ["evil"]\nkind = "command"')
    monkeypatch.setenv("AUTORESEARCH_PROPOSER_COMMAND", '["claude"]')
    flags = {"session.notify": ["say"]}
    assert untrusted(RunDirectory(lab), load_config(RunDirectory(lab), flags)) == []


def test_verbs_that_read_do_not_ask(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _say(made, 'session.notify = ["say"]')
    for verb in (
        "log",
        "report",
        "run --show-config",
        "run --dry-run",
        "prepare --list",
        "log --sessions",
    ):
        assert main(verb.split()) == 0, verb
    assert "trust" not in capsys.readouterr().err


def test_the_doctor_asks_no_provider_of_an_untrusted_folder(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import autoresearch.proposer.registry

    def ask(*_: object, **__: object) -> None:
        raise AssertionError("a proposer was made")

    monkeypatch.setattr(autoresearch.proposer.registry, "make_proposer", ask)
    _say(made, 'proposer.kind = "llm"\nmodel = "openai/x"\napi_base = "http://evil.example"')
    assert main(["doctor", "--json"]) == 3
    findings = {f["name"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["trust"]["status"] == "fail"
    assert findings["trust"]["data"]["lines"] == ['proposer.api_base = "http://evil.example"']
    assert findings["proposer"]["status"] == "skip"


@pytest.mark.parametrize(("answer", "code", "is_kept"), [("n\n", 1, False), ("y\n", 3, True)])
def test_a_terminal_asks_once_and_shows_the_lines(
    answer: str, code: int, is_kept: bool, lab: Path
) -> None:
    """Exit 3 of the second: with a yes `try` gets as far as the data, which is not prepared."""
    _say(lab, 'session.notify = ["say", "\\u001b[2J"]')
    exit_code, shown = on_terminal(["try"], answer, lab, stdout=subprocess.DEVNULL)
    assert exit_code == code
    assert b'session.notify = ["say", "\\u001b[2J"]' in shown
    assert (b"no prepared data" in shown) == is_kept
    assert bool(untrusted(RunDirectory(lab), load_config(RunDirectory(lab)))) != is_kept
