"""Keys of the lab reach neither a trial, nor a log, nor a result, nor an error."""

import subprocess
import sys
from pathlib import Path

import pytest

from autoresearch.sandbox import NoSandbox, Policy
from autoresearch.sandbox.launcher.kernel import MESSAGE
from autoresearch.trial.process import environment_for

KEY = "sk-canary-0123456789"
NAMES = (
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "HF_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "GITHUB_TOKEN",
    "WANDB_API_KEY",
    "SSH_AUTH_SOCK",
    "DBUS_SESSION_BUS_ADDRESS",
    "LD_PRELOAD_NOTE",
    "PYTHONSTARTUP",
)


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, KEY)


def test_a_trial_process_is_given_no_key():
    environment = environment_for(7)
    assert KEY not in environment.values()
    assert not set(NAMES) & set(environment)


def test_no_key_in_the_command_or_its_environment(sandbox, place):
    for backend in (sandbox, NoSandbox()):
        home = place / f"home-{backend.name}"
        home.mkdir()
        command = backend.wrap(
            [sys.executable], Policy("train", home, home, environment=environment_for(7))
        )
        assert KEY not in repr(command)


def test_a_child_finds_no_key_anywhere(run):
    code = """
import glob, os
for path in ["/proc/self/environ", *glob.glob("/proc/[0-9]*/environ"), *glob.glob("/proc/[0-9]*/cmdline")]:
    try:
        with open(path, "rb") as file:
            if b"sk-" + b"canary" in file.read():
                print("found in", path)
    except OSError:
        pass
print([name for name, value in os.environ.items() if "sk-" + "canary" in value])
"""
    child = run(code, environment=environment_for(7))
    assert child.out == "[]\n", child.out
    assert KEY not in child.err


def test_no_key_in_the_error_of_a_start_that_fails(sandbox, place):
    home = place / "home"
    home.mkdir()
    command = sandbox.wrap(
        [str(place / "missing")], Policy("train", home, home, environment=environment_for(7))
    )
    done = subprocess.run(
        command.argv, env=dict(command.env), capture_output=True, text=True, check=False
    )
    assert done.returncode == 126
    assert MESSAGE in done.stderr
    assert KEY not in done.stderr + done.stdout


def test_the_launcher_is_found():
    from autoresearch.sandbox import command as keeper

    assert (keeper.LAUNCHER / "main.py").is_file()
    assert Path(keeper.interpreter()).is_file()
