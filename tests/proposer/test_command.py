"""The command proposer with a real script as agent: `pytest tests/proposer/test_command.py`."""

import errno
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from proposer_sample import TRAIN, context

from autoresearch.config import ProposerConfig, load_config
from autoresearch.errors import ConfigError, PrerequisiteError
from autoresearch.events import Alerted
from autoresearch.proposer.agent import process, scratch
from autoresearch.proposer.agent import proposer as command_module
from autoresearch.proposer.agent.presets import command_line
from autoresearch.proposer.agent.process import (
    AgentRun,
    failure_of,
    last_words,
    program_folders,
    read_usage,
)
from autoresearch.proposer.agent.proposer import CommandProposer
from autoresearch.proposer.agent.scratch import Scratch
from autoresearch.proposer.base import (
    CancelledError,
    CostLimitError,
    EditFailedError,
    ProposerUnavailableError,
)
from autoresearch.proposer.fallback import WithFallback
from autoresearch.proposer.search.proposer import SearchProposer
from autoresearch.sandbox import Command, choose
from autoresearch.types import Proposal

NEVER = threading.Event()
EDIT = """
text = pathlib.Path("train.py").read_text()
pathlib.Path("train.py").write_text(text.replace("0.04 ", "0.02 "))
"""
IMPORTING = """
path = pathlib.Path("train.py")
path.write_text("import helper\\n" + path.read_text())
"""
IDEA = """
pathlib.Path("IDEA.md").write_text("DESCRIPTION: halve it\\nHYPOTHESIS: because\\nTHEME: Rates\\n")
"""


@pytest.fixture(autouse=True)
def one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoresearch.proposer.base.MAX_ROUNDS", 1)


def agent(tmp_path: Path, body: str) -> list[str]:
    script = tmp_path / "agent.py"
    script.write_text("import json, os, pathlib, sys, time\nprompt = sys.stdin.read()\n" + body)
    return [sys.executable, str(script)]


def config(command: list[str], **more: Any) -> ProposerConfig:
    base = load_config(None).config.proposer
    values = {"kind": "command", "command": command, "timeout_seconds": 20.0}
    return base.model_copy(update={**values, **more})


def propose(tmp_path: Path, body: str, **more: Any) -> Proposal:
    settings = config(agent(tmp_path, body), **more)
    return CommandProposer(settings, scratch=tmp_path / "scratch").propose(context(), NEVER)


def test_what_it_changed_is_the_proposal(tmp_path: Path) -> None:
    p = propose(tmp_path, EDIT + IDEA + "assert prompt == pathlib.Path('PROMPT.md').read_text()")
    assert p.files["train.py"] == TRAIN.replace("0.04 ", "0.02 ")
    assert (p.proposer, p.description, p.hypothesis, p.theme) == (
        "command",
        "halve it",
        "because",
        "rates",
    )
    assert p.parameters == {"MATRIX_LR": 0.02}
    assert p.usage.num_calls == 1
    assert p.usage.cost_usd is None
    assert b"DESCRIPTION: halve it" in p.attachments["reply.md"]
    assert b"IDEA.md" in p.attachments["prompt.md"]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_model_is_named_where_the_command_is_told_it(tmp_path: Path) -> None:
    assert propose(tmp_path, EDIT, model="m").model == Path(sys.executable).name
    told = config([*agent(tmp_path, EDIT), "{model}"], model="m")
    p = CommandProposer(told, scratch=tmp_path / "scratch").propose(context(), NEVER)
    assert p.model == f"{Path(sys.executable).name} m"


def test_a_script_named_from_the_run_directory_starts_and_its_description_is_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python, script = agent(tmp_path, EDIT)
    Path(script).write_text(f"#!{python}\n{Path(script).read_text()}")
    Path(script).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    proposer = CommandProposer(config(["./agent.py"]), scratch=tmp_path / "scratch")
    assert proposer.propose(context(), NEVER).description == "MATRIX_LR 0.04 -> 0.02"


def test_the_agent_sees_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-yours")
    monkeypatch.setenv("MY_TOKEN", "for-you")
    monkeypatch.setenv("OTHER_SECRET", "no")
    told = tmp_path / "seen.json"
    body = (
        EDIT
        + f"pathlib.Path({str(told)!r}).write_text(json.dumps([dict(os.environ), sorted(os.listdir())]))"
    )
    propose(tmp_path, body, pass_env=["MY_TOKEN"])
    env, names = json.loads(told.read_text())
    assert env["MY_TOKEN"] == "for-you"
    assert "OPENAI_API_KEY" not in env
    assert "OTHER_SECRET" not in env
    assert env["HOME"] != os.environ["HOME"]
    assert names == ["PROMPT.md", "train.py"]


def test_a_module_it_made_and_imports_is_refused_and_told(tmp_path: Path) -> None:
    made = IMPORTING + "pathlib.Path('helper.py').write_text('x')\n"
    body = EDIT + (
        "if 'may not be made' not in prompt:\n"
        + "".join(f"    {line}\n" for line in made.strip().splitlines())
        + "else:\n"
        "    assert '0.04 ' in text and not pathlib.Path('helper.py').exists()\n"
    )
    p = propose(tmp_path, body)
    assert p.usage.num_calls == 2
    with pytest.raises(
        EditFailedError, match=r"`helper.py` may not be made, only `train.py` changed"
    ) as raised:
        propose(tmp_path, EDIT + made)
    assert raised.value.reason == "out_of_scope_edit"
    assert raised.value.proposal.files == {"train.py": TRAIN}


@pytest.mark.parametrize(
    "body",
    [
        "pathlib.Path('run.log').write_text('x'); pathlib.Path('results.tsv').write_text('x')",
        "pathlib.Path('helper.py').write_text('x')",
        "pathlib.Path('data').mkdir(); pathlib.Path('data/a.bin').write_text('x')",
        "pathlib.Path('lib').symlink_to('/etc')",
    ],
)
def test_what_else_it_leaves_is_dropped_and_named(tmp_path: Path, body: str) -> None:
    p = propose(tmp_path, EDIT + IDEA + body)
    assert p.files == {"train.py": TRAIN.replace("0.04 ", "0.02 ")}
    assert p.usage.num_calls == 1
    assert b"(dropped: " in p.attachments["reply.md"]


def test_what_it_commits_is_its_edit(tmp_path: Path) -> None:
    body = EDIT + (
        "import subprocess\n"
        "for line in ('init -q', 'add -A', '-c user.name=a -c user.email=a@b commit -qm mine'):\n"
        "    subprocess.run(['git', *line.split()], check=True)\n"
    )
    assert propose(tmp_path, body).parameters == {"MATRIX_LR": 0.02}


def test_a_syntax_error_is_corrected_in_place(tmp_path: Path) -> None:
    body = (
        "path = pathlib.Path('train.py')\ntext = path.read_text()\n"
        "path.write_text(text.replace('DEPTH = (', 'DEPTH = 5') if 'attempt was refused' in prompt"
        " else text.replace('DEPTH = 4', 'DEPTH = ('))\n"
    )
    p = propose(tmp_path, body)
    assert "DEPTH = 5" in p.files["train.py"]


@pytest.mark.parametrize(
    ("body", "reason", "message"),
    [
        ("pathlib.Path('train.py').unlink()", "edit_failed", "is gone"),
        (
            "p = pathlib.Path('train.py'); p.unlink(); p.symlink_to('/etc/passwd')",
            "edit_failed",
            "plain file",
        ),
        ("p = pathlib.Path('train.py'); p.unlink(); os.mkfifo(p)", "edit_failed", "plain file"),
        ("pathlib.Path('train.py').write_bytes(b'\\xff\\xfe')", "edit_failed", "not UTF-8"),
    ],
)
def test_hostile_and_useless_results(tmp_path: Path, body: str, reason: str, message: str) -> None:
    with pytest.raises(EditFailedError, match=message) as raised:
        propose(tmp_path, body)
    assert raised.value.reason == reason


def test_its_own_state_and_caches_are_ignored(tmp_path: Path) -> None:
    body = EDIT + "pathlib.Path('.agent').mkdir(); pathlib.Path('.agent/log').write_text('x')\n"
    body += (
        "pathlib.Path('__pycache__').mkdir(); pathlib.Path('__pycache__/a.pyc').write_text('x')\n"
    )
    assert propose(tmp_path, body).usage.num_calls == 1


def test_a_failure_is_said_in_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "tok-12345678")
    body = EDIT + "print('Invalid API key', os.environ['MY_TOKEN'], file=sys.stderr); sys.exit(3)"
    with pytest.raises(
        ProposerUnavailableError, match="exit code 3: Invalid API key <MY_TOKEN>"
    ) as raised:
        propose(tmp_path, body, pass_env=["MY_TOKEN"])
    assert raised.value.retry_seconds is not None
    assert raised.value.usage.num_calls == 1


def test_the_time_limit_ends_it(tmp_path: Path) -> None:
    with pytest.raises(ProposerUnavailableError, match=r"did not finish within 0\.5 s"):
        propose(tmp_path, "time.sleep(600)", timeout_seconds=0.5)


def test_one_that_never_stops_leaves_its_edit(tmp_path: Path) -> None:
    body = EDIT + "pathlib.Path('done').touch()\ntime.sleep(600)"
    assert propose(tmp_path, body, timeout_seconds=10.0).parameters == {"MATRIX_LR": 0.02}


def test_too_much_output_ends_it_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "MAX_OUTPUT_MB", 1)
    body = "print('x' * 1_100_000, flush=True)\ntime.sleep(600)"
    with pytest.raises(ProposerUnavailableError, match="wrote more than 64 MB") as raised:
        propose(tmp_path, body, timeout_seconds=120.0)
    assert "print less" in str(raised.value.hint)


def test_the_tree_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    body = (
        "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"new = pathlib.Path({str(tmp_path / 'new')!r})\n"
        f"new.write_text(str(child.pid))\nnew.rename({str(pid)!r})\ntime.sleep(600)\n"
    )
    stop = threading.Event()

    def stop_once_it_runs() -> None:
        for _ in range(1200):
            if pid.exists():
                break
            time.sleep(0.05)
        stop.set()

    waiting = threading.Thread(target=stop_once_it_runs)
    waiting.start()
    settings = config(agent(tmp_path, body), timeout_seconds=120.0)
    with pytest.raises(CancelledError):
        CommandProposer(settings, scratch=tmp_path / "s").propose(context(), stop)
    waiting.join()
    grandchild = int(pid.read_text())
    for _ in range(400):
        if is_dead(grandchild):
            return
        time.sleep(0.05)
    pytest.fail("the grandchild is alive")


def is_dead(pid: int) -> bool:
    """Whether a process is gone, or waits only for the parent that does not reap it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_stop_ends_it(tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.4, stop.set).start()
    proposer = CommandProposer(
        config(agent(tmp_path, "time.sleep(600)"), timeout_seconds=120.0), scratch=tmp_path / "s"
    )
    began = time.monotonic()
    with pytest.raises(CancelledError):
        proposer.propose(context(), stop)
    assert time.monotonic() - began < 30


def test_costs_it_reports_are_counted_and_capped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoresearch.proposer.base.MAX_ROUNDS", 3)
    said = {
        "type": "result",
        "total_cost_usd": 0.03,
        "usage": {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 5},
    }
    body = f"print({json.dumps(said)!r})\n"
    assert propose(tmp_path, EDIT + body).usage.cost_usd == 0.03
    useless = body + "pathlib.Path('train.py').write_text('def')"
    proposer = CommandProposer(config(agent(tmp_path, useless)))
    with pytest.raises(CostLimitError) as raised:
        proposer.propose(context(cost_left_usd=0.05), NEVER)
    assert raised.value.usage.cost_usd == pytest.approx(0.06)
    events = '{"type":"turn.completed","usage":{"input_tokens":7,"cached_input_tokens":2,"output_tokens":3}}'
    usage = read_usage(f"noise\n{events}\n{{broken\n{events}", 1.0)
    assert (usage.tokens_in, usage.tokens_cached, usage.tokens_out) == (14, 4, 6)


def test_one_that_did_not_say_what_it_cost_is_not_asked_again_under_a_cap(tmp_path: Path) -> None:
    proposer = CommandProposer(config(agent(tmp_path, EDIT)))
    assert proposer.propose(context(cost_left_usd=1.0), NEVER).usage.cost_usd is None
    with pytest.raises(CostLimitError, match="so `--max-cost` cannot be enforced"):
        proposer.propose(context(cost_left_usd=1.0), NEVER)
    proposer.propose(context(), NEVER)


CAPPED_AGENT = """#!/bin/sh
cat > /dev/null
for part in "$@"; do case "$part" in --max-budget-usd=*) echo "${part#*=}" >> CAPS;; esac; done
"""


def capped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, **more: Any
) -> tuple[CommandProposer, list[str]]:
    """A `claude` that notes what it is held to and ends as told."""
    told: list[str] = []
    caps = tmp_path / "caps"
    fake = tmp_path / "claude"
    fake.write_text(CAPPED_AGENT.replace("CAPS", str(caps)) + end)
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    settings = config(["claude"], **more)
    return CommandProposer(settings, notify=lambda alert: told.append(alert.text)), told


@pytest.mark.parametrize("end", ["never", "exit 1", "kill -9 $$"])
def test_runs_that_die_without_a_word_never_pass_the_cost_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    def never_ends(command: Command, *_: object) -> AgentRun:
        cap = next(part for part in command.argv if part.startswith("--max-budget-usd="))
        with (tmp_path / "caps").open("a") as file:
            file.write(cap.partition("=")[2] + "\n")
        return AgentRun(None, "", "", 1.0, "time")

    proposer, told = capped(tmp_path, monkeypatch, end)
    if end == "never":
        monkeypatch.setattr(command_module, "run_agent", never_ends)
    spent = 0.0
    for _ in range(4):
        with pytest.raises(ProposerUnavailableError) as raised:
            proposer.propose(context(cost_left_usd=2.0 - spent), NEVER)
        spent += raised.value.usage.cost_usd or 0.0
    caps = [float(line) for line in (tmp_path / "caps").read_text().split()]
    assert caps == [0.5, 0.37, 0.28, 0.21], "a quarter of what is left each time"
    assert spent == pytest.approx(sum(caps))
    assert told == [], "the limit is kept"


def test_a_stopped_run_is_booked_at_its_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposer, _ = capped(tmp_path, monkeypatch, "sleep 30")
    stop = threading.Event()
    threading.Timer(0.4, stop.set).start()
    with pytest.raises(CancelledError) as raised:
        proposer.propose(context(cost_left_usd=2.0), stop)
    assert raised.value.usage.cost_usd == 0.5


def test_a_cap_leaves_room_for_twice_the_dearest_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = json.dumps({"type": "result", "total_cost_usd": 0.4, "usage": {"input_tokens": 1}})
    proposer, _ = capped(tmp_path, monkeypatch, f"echo '{said}'; exit 1")
    for left in (1.0, 1.0, 0.6, 0.004):
        with pytest.raises(ProposerUnavailableError) as raised:
            proposer.propose(context(cost_left_usd=left), NEVER)
    assert isinstance(raised.value, CostLimitError), "less than a cent"
    assert (tmp_path / "caps").read_text().split() == ["0.25", "0.80", "0.60"]


def test_what_was_not_started_or_has_no_limit_is_not_booked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposer, told = capped(tmp_path, monkeypatch, "exit 127")
    for left in (2.0, None):
        with pytest.raises(ProposerUnavailableError) as raised:
            proposer.propose(context(cost_left_usd=left), NEVER)
        assert raised.value.usage.cost_usd is None
    assert told == []
    killed, told = capped(tmp_path, monkeypatch, "sleep 30", timeout_seconds=0.3)
    with pytest.raises(ProposerUnavailableError):
        killed.propose(context(), NEVER)
    assert "`claude` does not say what it costs" in told[0]


def test_presets() -> None:
    claude = command_line(["claude"], model="opus", cap_usd=1.234, is_sandboxed=False)
    assert claude[:2] == ["claude", "--print"]
    assert claude[-2:] == ["--model=opus", "--max-budget-usd=1.23"]
    codex = command_line(["codex"], model="", cap_usd=1.0, is_sandboxed=False)
    assert codex[-1] == "--sandbox=workspace-write"
    inside = command_line(["codex"], model="", cap_usd=None, is_sandboxed=True)
    assert inside[-1] == "--dangerously-bypass-approvals-and-sandbox"
    own = ["claude", "-p", "--model", "x"]
    assert command_line(own, model="opus", cap_usd=None, is_sandboxed=True) == own
    with pytest.raises(ConfigError, match="`aider` has no preset"):
        command_line(["aider"], model="", cap_usd=None, is_sandboxed=False)
    with pytest.raises(ConfigError, match=r"`proposer.command` is empty"):
        CommandProposer(config([]))


def test_first_contact(tmp_path: Path) -> None:
    assert "sandbox none" in CommandProposer(config([sys.executable, "x.py"])).check()
    with pytest.raises(PrerequisiteError, match="`no-such-agent` is not on the PATH"):
        CommandProposer(config(["no-such-agent", "-p"])).check()
    script = tmp_path / "own"
    script.write_text("#!/bin/sh\necho asked >> asked\nexit 4\n")
    script.chmod(0o755)
    assert CommandProposer(config([str(script), "-p"])).check().startswith("command: ")
    bad = tmp_path / "claude"
    bad.write_text("#!/bin/sh\necho broken >&2\nexit 4\n")
    bad.chmod(0o755)
    with pytest.raises(PrerequisiteError, match="--version` fails: broken"):
        CommandProposer(config([str(bad), "-p"])).check()


@pytest.mark.parametrize(
    ("first", "lacks"),
    [
        ("#!/usr/bin/env no-such-runtime", "no-such-runtime"),
        ("#!/usr/bin/env -S A=1 no-such-runtime --x", "no-such-runtime"),
        ("#!/opt/none/bin/run -x", "/opt/none/bin/run"),
    ],
)
def test_a_script_that_nothing_can_start_is_told_before_the_session(
    tmp_path: Path, first: str, lacks: str
) -> None:
    script = tmp_path / "own"
    script.write_text(f"{first}\n")
    script.chmod(0o755)
    with pytest.raises(PrerequisiteError, match=f"own` cannot be started.* no `{lacks}`") as raised:
        CommandProposer(config([str(script)]), choose()).check()
    assert raised.value.exit_code == 3


def test_a_file_that_the_sandbox_does_not_show_is_told_before_the_session(tmp_path: Path) -> None:
    _, script = agent(tmp_path, EDIT)
    line = ["/bin/sh", script, "/no/such/file"]
    with pytest.raises(PrerequisiteError, match=r"`/bin/sh` cannot be started.*agent\.py`"):
        CommandProposer(config(line), choose()).check()
    own = tmp_path / "own"
    own.write_text("#!\n")
    own.chmod(0o755)
    assert "own" in CommandProposer(config([str(own), script]), choose()).check()


@pytest.mark.parametrize("code", [126, 127])
def test_a_command_that_does_not_start_is_not_waited_for(tmp_path: Path, code: int) -> None:
    with pytest.raises(ProposerUnavailableError, match=f"exit code {code}: no sh") as raised:
        propose(tmp_path, f"print('no sh', file=sys.stderr)\nsys.exit({code})")
    told: list[Alerted] = []
    command = agent(tmp_path, f"sys.exit({code})")
    first = CommandProposer(config(command), scratch=tmp_path / "scratch")
    both = WithFallback(first, SearchProposer(), 600, told.append)
    assert both.propose(context(), NEVER).proposer == "search"
    assert "`search` proposes meanwhile" in told[-1].text
    assert "is not there in the sandbox" in str(raised.value.hint)


def test_a_preset_that_is_not_signed_in_is_told_at_once(
    tmp_path: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("claude", "codex"):
        fake = tmp_path / name
        fake.write_text(
            '#!/bin/sh\n[ "$2" = status ] && [ ! -f "$HOME/.claude/.credentials.json" ]\nexit $((! $?))\n'
        )
        fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(PrerequisiteError, match="`claude` is not signed in") as raised:
        CommandProposer(config(["claude"])).check()
    assert "ANTHROPIC_API_KEY" in str(raised.value.hint)
    (isolated / ".claude").mkdir()
    (isolated / ".claude" / ".credentials.json").write_text("{}")
    assert "`claude`" in CommandProposer(config(["claude"])).check()
    (isolated / ".claude" / ".credentials.json").unlink()
    with pytest.raises(PrerequisiteError, match="`codex` is not signed in"):
        CommandProposer(config(["codex"])).check()
    (isolated / ".codex").mkdir()
    (isolated / ".codex" / "config.toml").write_text('model_provider = "mine"')
    assert "`codex`" in CommandProposer(config(["codex"])).check()


GEMINI = (
    '{\n  "response": "",\n  "error": {\n    "type": "Error",\n    "message": "quota"\n  }\n}\n'
)


@pytest.mark.parametrize(
    ("output", "errors", "said"),
    [
        ('{"type":"result","is_error":true,"result":"Not logged in"}', "", "Not logged in"),
        ('{"type":"result","is_error":false,"result":"Done"}', "warning\nboom\n", "boom"),
        (
            '{"type":"error","message":"Reconnecting"}\n{"type":"turn.failed","error":{"message":"401"}}',
            "Reading prompt from stdin...",
            "401",
        ),
        ("", GEMINI, "quota"),
        ("[1]\nno json\n\n", "", "no json"),
        ("", "", ""),
    ],
)
def test_last_words(output: str, errors: str, said: str) -> None:
    assert last_words(AgentRun(1, output, errors, 1.0)) == said


def test_a_script_of_a_python_environment_brings_it_along(tmp_path: Path) -> None:
    script = tmp_path / "env" / "bin" / "agent"
    script.parent.mkdir(parents=True)
    python = script.parent / "python3"
    python.symlink_to(sys.executable)
    script.write_text(f"#!{python}\nprint(1)\n")
    link = tmp_path / "bin" / "agent"
    link.parent.mkdir()
    link.symlink_to(script)
    folders = program_folders(link, tmp_path / "scratch")
    assert {link.parent, script.parent, tmp_path / "env"} <= set(folders)


@pytest.mark.parametrize("name", ["", "./agent.py"])
def test_a_script_beside_the_run_is_shown_alone(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "agent.py"
    script.write_text(f"#!{sys.executable}\nimport pathlib, sys\nsys.stdin.read()\n{EDIT}{IDEA}")
    script.chmod(0o755)
    (tmp_path / "secret").write_text("x")
    sandbox = choose("auto", is_unsafe_allowed=True)
    proposer = CommandProposer(
        config([name or str(script), "-x"]), sandbox, tmp_path / "run" / "agents"
    )
    assert proposer.propose(context(), NEVER).description == "halve it"
    assert script in program_folders(script, tmp_path / "run")
    assert tmp_path not in program_folders(script, tmp_path / "run")


@pytest.mark.parametrize("backend", ["none", "auto"])
def test_files_named_from_the_run_directory_are_found_from_the_scratch_copy(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    python, script = agent(
        tmp_path,
        "rate, same = (pathlib.Path(a.split('=')[-1]) for a in sys.argv[1:3])\n"
        "assert sys.argv[3:] == ['missing.toml', '--x=']\n"
        "text = same.read_text()\n"
        "same.write_text(text.replace('0.04 ', rate.read_text()))\n" + IDEA,
    )
    (tmp_path / "autoresearch.toml").write_text("")
    (tmp_path / "my.toml").write_text("0.02 ")
    (tmp_path / "train.py").write_text("not this one")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    line = [python, Path(script).name, "--rate=my.toml", "train.py", "missing.toml", "--x="]
    sandbox = choose(backend, is_unsafe_allowed=True)
    p = CommandProposer(config(line), sandbox, tmp_path / "agents").propose(context(), NEVER)
    assert p.files["train.py"] == TRAIN.replace("0.04 ", "0.02 ")
    assert (tmp_path / "train.py").read_text() == "not this one"


AUTH = {
    "tokens": {"id_token": "a", "access_token": "b", "account_id": "ada"},
    "last_refresh": "1",
    "mode": None,
}


@pytest.mark.parametrize(
    ("changes", "is_renewal"),
    [
        ({"tokens.access_token": "c", "tokens.id_token": "d", "last_refresh": "2"}, True),
        ({"tokens.access_token": "c", "tokens.account_id": "mallory"}, False),
        ({"tokens.access_token": "c", "apiBase": "http://evil.example"}, False),
        ({"tokens.access_token": {"x": 1}}, False),
        ({"tokens.access_token": None}, False),
        ({"tokens": {"access_token": "c"}}, False),
        ({"mode": "evil"}, False),
    ],
)
def test_of_a_sign_in_only_tokens_and_times_come_back(
    tmp_path: Path, changes: dict[str, Any], is_renewal: bool
) -> None:
    home = tmp_path / "home"
    (home / ".codex").mkdir(parents=True)
    auth, old = home / ".codex" / "auth.json", home / ".codex" / "auth.json.bak"
    auth.write_text(json.dumps(AUTH))
    (home / ".codex" / "history").write_text("private")
    new = json.loads(json.dumps(AUTH))
    for keys, value in changes.items():
        *above, last = keys.split(".")
        inner = new
        for key in above:
            inner = inner[key]
        inner[last] = value
    with Scratch(tmp_path / "s") as private:
        private.bring(home, (".codex/auth.json", ".codex/none.json"))
        inside = private.home / ".codex" / "auth.json"
        assert json.loads(inside.read_text()) == AUTH
        assert not (private.home / ".codex" / "history").exists()
        inside.write_text(json.dumps(new))
        written, problems = private.give_back(home, (".codex/auth.json", ".codex/none.json"))
    assert json.loads(auth.read_text()) == (new if is_renewal else AUTH)
    assert (written, len(problems)) == (
        ["`~/.codex/auth.json`"] if is_renewal else [],
        not is_renewal,
    )
    assert old.exists() == is_renewal
    if is_renewal:
        assert json.loads(old.read_text()) == AUTH
        assert old.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["not json", "{}", "[]", "{", "[" * 100_000])
def test_a_sign_in_that_is_none_any_more_does_not_come_back(tmp_path: Path, text: str) -> None:
    for before in (json.dumps(AUTH), "not json either"):
        (tmp_path / "auth.json").write_text(before)
        with Scratch(tmp_path / "s") as private:
            (private.home / "auth.json").write_text(text)
            assert private.give_back(tmp_path, ("auth.json",))[0] == []
        assert (tmp_path / "auth.json").read_text() == before


SIGNED_IN_AGENT = """#!/bin/sh
cat > /dev/null
sed 's/0.04 /0.02 /' train.py > new && mv new train.py
echo '{"token": 2}' > "$HOME/.claude/.credentials.json"
"""


def sign_in(home: Path) -> Path:
    (home / ".claude").mkdir()
    credentials = home / ".claude" / ".credentials.json"
    credentials.write_text('{"token": "1, and long"}')
    return credentials


def test_a_sign_in_that_is_mounted_alone_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(self: Path, _: object) -> Path:
        raise OSError(errno.EBUSY, "Device or resource busy", str(self))

    monkeypatch.setattr(Path, "replace", busy)
    credentials = sign_in(tmp_path)
    with Scratch(tmp_path / "s") as private:
        private.bring(tmp_path, (".claude/.credentials.json",))
        (private.home / ".claude" / ".credentials.json").write_text('{"token": 2}')
        assert private.give_back(tmp_path, (".claude/.credentials.json",))[1] == []
    assert credentials.read_text() == '{"token": 2}'
    assert {p.name for p in credentials.parent.iterdir()} == {
        credentials.name,
        f"{credentials.name}.bak",
    }


def test_a_sign_in_that_cannot_be_given_back_is_told_and_ends_nothing(
    tmp_path: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(scratch, "_replace", read_only)
    fake = tmp_path / "claude"
    fake.write_text(SIGNED_IN_AGENT)
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    credentials = sign_in(isolated)
    told: list[str] = []
    proposer = CommandProposer(config(["claude"]), notify=lambda alert: told.append(alert.text))
    for _ in range(2):
        assert "0.02 " in proposer.propose(context(), NEVER).files["train.py"]
    assert "1, and long" in credentials.read_text()
    lost = [text for text in told if "sign-in" in text]
    assert len(lost) == 1
    assert "`claude`" in lost[0]
    assert "(`~/.claude/.credentials.json`: Read-only file system)" in lost[0]


BEGUN = '{"type":"system","subtype":"init"}\n'
DONE = '{"type":"result","subtype":"success","is_error":false,"result":"Done"}'
AIDER = "Aider v0.86.1\nlitellm.RateLimitError: quota\nRetrying in 0.2 seconds...\n"
APPLIED = AIDER + "Tokens: 1k sent, 99 received.\nApplied edit to train.py\n"


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ('{"type":"result","subtype":"success","is_error":true,"result":"Invalid API key"}', "Invalid API key"),
        ('{"type":"result","subtype":"error_max_turns","is_error":false}', "error_max_turns"),
        ('[{"type":"system"},{"type":"result","is_error":true,"result":"Credit"}]', "Credit"),
        (DONE.replace("Done", "API Error: Rate limit reached"), "Rate limit"),  # Claude Code, text only
        (DONE.replace("Done", "[API Error: 400 bad]"), "API Error: 400"),  # Qwen
        (BEGUN + '{"type":"assistant","error":"rate_limit"}', "rate_limit"),
        (BEGUN + '{"type":"assistant"}', "begun and not completed"),
        (BEGUN + '{"type":"assistant","error":"overloaded"}\n' + DONE, None),
        (DONE, None),
        (DONE + "\nA new version is available.\n", None),
        ('{"type":"turn.started"}\n{"type":"turn.failed","error":{"message":"usage limit"}}', "usage limit"),
        ('{"type":"turn.started"}\n{"type":"error","message":"stream lost"}', "stream lost"),
        ('{"type":"turn.started"}\n{"type":"item.completed"}', "begun and not completed"),
        ('{"type":"error","message":"Reconnecting"}\n{"type":"turn.completed"}', None),
        ('{"type":"item.completed","item":{"type":"error","message":"x"}}\n{"type":"turn.completed"}', None),
        ('{"type":"turn.completed"}\n{"error": null}', None),
        ("Loaded credentials.\n[STARTUP] x\n" + GEMINI + "\nbye", "quota"),
        (GEMINI.replace('"error": {', '"stats": {'), None),
        ('{"type":"init"}\n{"type":"result","status":"error","stats":{}}', "an error without words"),
        ('{"type":"error","severity":"warning","message":"loop"}\n{"type":"result","status":"success"}', None),
        ('{"type":"tool_result","status":"error","error":{"message":"x"}}\n{"type":"result","status":"success"}', None),
        ('{"type":"error","error":{"name":"x","data":{"message":"no such model"}}}', "no such model"),
        ('{"type":"step_start"}\n{"type":"error","error":{"name":"Aborted"}}', "Aborted"),
        ('{"type":"error","error":{"name":"x"}}\n{"type":"step_finish","part":{"reason":"stop"}}', None),
        ('{"type":"session.error","data":{"message":"quota"}}', "quota"),
        ('{"type":"tool.execution_failed","data":{}}', None),
        ("done it\nAPI Error: Rate limit reached\n", "Rate limit"),
        ("\x1b[91m\x1b[1mError: \x1b[0mno such model\n\n", "no such model"),
        ("error: only text\n{broken", None),
        (AIDER, "RateLimitError: quota"),
        (AIDER + "The LLM did not conform to the edit format.\n# 1 block failed", "did not conform"),
        (APPLIED, None),
        (APPLIED + "Only 3 reflections allowed, stopping.\n", "Only 3 reflections"),
    ],
)  # fmt: skip
def test_success_is_what_the_agent_says_not_its_exit_status(output: str, said: str | None) -> None:
    found = failure_of(AgentRun(0, output, "", 1.0))
    assert found is None if said is None else said in str(found)


def test_half_an_edit_of_an_agent_that_failed_is_not_tried(tmp_path: Path) -> None:
    body = EDIT + IDEA + "import sys; print('Error: no such model', file=sys.stderr)"
    with pytest.raises(ProposerUnavailableError, match=r"says that it failed: .*no such") as raised:
        propose(tmp_path, body)
    assert raised.value.usage.num_calls == 1
    assert raised.value.retry_seconds is not None
    assert raised.value.retry_seconds >= 20


def test_an_agent_that_changes_nothing_is_asked_once_more_then_left_alone(tmp_path: Path) -> None:
    body = "print('AuthenticationError: sign in first')"
    proposer = CommandProposer(config(agent(tmp_path, body)), scratch=tmp_path / "scratch")
    waits = []
    for _ in range(3):
        with pytest.raises(
            ProposerUnavailableError, match=r"gives nothing to try: .* sign in first"
        ) as raised:
            proposer.propose(context(), NEVER)
        assert raised.value.usage.num_calls == 2
        waits.append(raised.value.retry_seconds or 0.0)
    assert waits == sorted(waits)
    assert waits[0] >= 20


def test_an_agent_with_a_bad_key_is_refused_before_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, told = capped(tmp_path, monkeypatch, "exit 0")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-\u201cx\u201d")
    with pytest.raises(PrerequisiteError, match=r"`ANTHROPIC_API_KEY` holds .*LEFT DOUBLE"):
        CommandProposer(config(["claude"])).check()
    monkeypatch.setenv("MINE", "a\tb")
    with pytest.raises(PrerequisiteError, match=r"`MINE` holds the character U\+0009"):
        CommandProposer(config(["sh", "-c", "true"], pass_env=["MINE"])).check()
    assert not told
