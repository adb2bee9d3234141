"""What settings name and programs were sent is in nothing that is kept or printed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from record_support import SETUP, Night, git

from autoresearch.cli import main
from autoresearch.config import load_config
from autoresearch.errors import WorkError
from autoresearch.proposer.agent.scratch import Scratch
from autoresearch.record.record import Record
from autoresearch.types import Outcome, Proposal, TrialResult
from autoresearch.util.text import redact

SECRETS = {"MY_LLM_AUTH": 'FAKE-"value"-xyz123', "OTHER": "Fake.other.77"}
WEBHOOK = "https://hooks.example/T0/B0/FAKEhook"


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a text with every secret that the settings name."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    names = {"api_key_env": "MY_LLM_AUTH", "pass_env": ["OTHER", "HOME"]}
    load_config(
        None,
        {
            **{f"proposer.{name}": value for name, value in names.items()},
            "session.notify": ["sh", "-c", f"curl -d \"$0\" '{WEBHOOK}'"],
        },
    )
    return " ".join([*SECRETS.values(), WEBHOOK, "https://ada:FAKEpassword@example.org/x"])


def _assert_clean(*texts: str) -> None:
    for text in texts:
        assert "FAKE" not in text.upper(), text


def test_the_record_and_all_made_from_it_hold_no_secret(
    night: Night,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = night.record
    proposal = Proposal(
        description=named, files={"train.py": night.knob(3, 33)}, parent=record.tip(), proposer="llm",
        hypothesis=named, note=named, attachments={"reply.md": named.encode()},
    )  # fmt: skip
    record.propose(proposal, 1, b"# program")
    result = TrialResult(
        seed=1, outcome=Outcome.CRASH, reason="exception", detail=named, log_tail=named
    )
    record.record_trial(1, result, setup=SETUP.key, started_at="2026-03-01T22:00:00Z")
    record.alert(f"the gateway said: {named}")
    journal = record.repository.ref("refs/autoresearch/nov21/journal")
    _assert_clean(git(night.root, "log", "-p", "--text", "--format=%B", str(journal)))
    with Record.open(record.run_directory) as again:
        assert "<MY_LLM_AUTH>" in again.session().alerts[-1].text
    monkeypatch.chdir(night.root)
    for verb in (
        "log --json",
        "show 1",
        "show 1 --json",
        "export 1 -o out",
        "report -o report.html",
    ):
        assert main(verb.split()) == 0, verb
    _assert_clean(*capsys.readouterr())
    files = [*(night.root / "out").rglob("*"), night.root / "report.html"]
    _assert_clean(*(path.read_text() for path in files if path.is_file()))


@pytest.mark.parametrize("flags", [[], ["-v"], ["--json"], ["-v", "--json"]])
def test_an_error_and_its_traceback_hold_no_secret(
    flags: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: object) -> None:
        try:
            raise ValueError(f"401: {named}")
        except ValueError as exc:
            raise WorkError(f"refused: {named}", hint=named) from exc

    monkeypatch.setattr("autoresearch.commands._common.open_record", fail)
    assert main([*flags, "show", "1"]) == 1
    out, err = capsys.readouterr()
    assert "refused" in out + err
    assert ("ValueError: 401" in err) == ("-v" in flags)
    _assert_clean(out, err)


@pytest.mark.parametrize("value", ["balanced", "/home/ada", "~/x", "12345678", "short"])
def test_a_plain_value_is_no_secret(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word or a path that stands in every second event would make the record unreadable."""
    monkeypatch.setenv("SOME_KEY", value)
    load_config(None, {"proposer.pass_env": ["SOME_KEY"]})
    assert redact(f"a {value} b") == f"a {value} b"


def test_tokens_that_an_agent_signs_in_with_are_secret(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    sign_in = {
        "auth": {"accessToken": "FAKE-at-1", "scopes": ["user:inference"], "plan": "Max 20x plan"}
    }
    (tmp_path / "home" / "auth.json").write_text(json.dumps(sign_in))
    with Scratch(tmp_path / "s") as private:
        private.bring(tmp_path / "home", ("auth.json",))
    assert (
        redact("FAKE-at-1, user:inference, Max 20x plan")
        == "<~/auth.json>, user:inference, Max 20x plan"
    )


def test_a_crash_of_the_lab_leaves_no_core(tmp_path: Path) -> None:
    code = "import os, resource; from autoresearch.cli import main; main([]);"
    code += "print(resource.getrlimit(resource.RLIMIT_CORE), flush=True); os.abort()"
    command = f"ulimit -c unlimited; exec {sys.executable} -c '{code}'"
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if "ulimit" in done.stderr:
        pytest.skip("core files are forbidden here already")
    limit = int(sys.platform == "linux")
    assert done.stdout.splitlines()[-1] == f"({limit}, -1)"
    assert list(tmp_path.iterdir()) == []
