"""The main job on real text with real trials: init, prepare, try, run, log, diff, show, revert, clone."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autoresearch.cli import main

pytestmark = pytest.mark.xdist_group("spine")
ROOT = Path(__file__).resolve().parents[2]


class Lab:
    """A run directory and the command line, in processes where it trains."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "lab"
        self.folder = folder

    def read(self, *arguments: str, cwd: Path | None = None) -> str:
        """Return what one verb prints, called in this process."""
        with (
            contextlib.chdir(cwd or self.root),
            contextlib.redirect_stdout(io.StringIO()) as printed,
        ):
            assert main([*arguments]) == 0
        return printed.getvalue()

    def __call__(self, *arguments: str) -> str:
        """Run one verb, check its exit code and return stdout."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "AUTORESEARCH_CACHE_DIR": str(self.folder / "cache"),
        }
        done = subprocess.run(
            [sys.executable, "-m", "autoresearch", *arguments],
            cwd=self.root if self.root.exists() else self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A session of one experiment with trials of a second and a half."""
    lab = Lab(tmp_path_factory.mktemp("e2e"))
    lab("init", "lab", "--preset", "demo", "--tag", "t")
    config = lab.root / "autoresearch.toml"
    text = config.read_text()
    assert "budget_seconds = 5.0" in text
    text = text.replace("budget_seconds = 5.0", "budget_seconds = 1.5")
    text = text.replace("[session]\n", "[session]\nconfirm_trials = 0\n#")
    for line in ("confirm_trials = 2\n", "confirm_trials = 3\n", "confirm_trials = 4\n"):
        text = text.replace(line, "")
    config.write_text(text + "\n[decision]\nbaseline_trials = 1\n")
    lab("prepare")
    lab("run", "--experiments", "1")
    return lab


@pytest.fixture
def read(night: Lab) -> dict:
    return json.loads(night.read("log", "--json", "-n", "0"))


def test_the_session_is_finished_and_complete(night: Lab, read: dict) -> None:
    assert read["session"]["state"] == "finished"
    experiments = sorted(read["experiments"], key=lambda e: e["number"])
    assert [e["number"] for e in experiments] == [0, 1]
    assert len(experiments[0]["trials"]) == 1
    for experiment in experiments:
        assert experiment["verdict"] in ("keep", "discard", "crash", "invalid")
    assert 1 < experiments[0]["score"] < 8


def test_the_log_is_the_same_in_a_clone_that_fetched_the_refs(night: Lab, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(night.root), str(clone)], check=True)
    refs = "refs/autoresearch/*:refs/autoresearch/*"
    subprocess.run(["git", "fetch", "-q", "origin", refs], cwd=clone, check=True)
    assert night.read("log", "-n", "0", cwd=clone) == night.read("log", "-n", "0")


def test_a_diff_in_a_pipe_applies(night: Lab, tmp_path: Path) -> None:
    patch = night("diff", "0", "1")  # in a pipe of the system
    assert patch.startswith("diff --git a/train.py b/train.py")
    base = tmp_path / "base"
    subprocess.run(["git", "clone", "-q", str(night.root), str(base)], check=True)
    baseline = json.loads(night.read("show", "0", "--json"))["experiment"]["commit"]
    subprocess.run(["git", "checkout", "-q", baseline], cwd=base, check=True)
    subprocess.run(["git", "apply", "--check"], cwd=base, input=patch, text=True, check=True)


def test_another_run_goes_on_where_this_one_ended(night: Lab, read: dict) -> None:
    before = [(e["number"], e["commit"]) for e in read["experiments"]]
    night("run", "--experiments", "0", "--hours", "0.00001")
    after = json.loads(night.read("log", "--json", "-n", "0"))["experiments"]
    assert [(e["number"], e["commit"]) for e in after] == before


def test_a_trial_of_the_working_tree_is_judged_and_not_recorded(night: Lab, read: dict) -> None:
    result = json.loads(night("try", "--json"))
    assert result["outcome"] == "ok"
    assert result["num_audited"] > 0
    again = json.loads(night.read("log", "--json", "-n", "0"))
    assert len(again["experiments"]) == len(read["experiments"])


def test_train_py_outside_a_trial_says_what_to_do(night: Lab) -> None:
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=night.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "autoresearch try" in done.stderr
    assert "Traceback" not in done.stderr
