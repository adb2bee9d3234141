"""Kills a lab that trains for real, and looks for what outlives it."""

import os
import pty
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import kill_support
import psutil
from record_support import git

import autoresearch
from autoresearch.types import Experiment

STEPS = ("snapshot_written", "trial_started", "weights_in", "claimed", "audited", "trial_stored")
RUN = (sys.executable, "-m", "autoresearch", "run", "--experiments", "1", "--no-confirm")

Life = tuple[int, float]
"""A process by its pid and the time it was made."""


class RealLab:
    """A run directory with the demo's train.py and trials of a second and a half."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "lab"
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(Path(autoresearch.__file__).parents[1]),
            "AUTORESEARCH_CACHE_DIR": str(folder / "cache"),
        }
        folder.mkdir()
        self("init", str(self.root), "--preset", "demo", "--tag", "t", cwd=folder)
        config = self.root / "autoresearch.toml"
        text = config.read_text()
        for line in ("budget_seconds = 5.0\n", "[session]\n"):
            assert line in text
        text = text.replace("budget_seconds = 5.0\n", "budget_seconds = 1.5\n")
        config.write_text(text + "\n[decision]\nbaseline_trials = 1\n")
        person = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        git(self.root, *person, "commit", "-qam", "Shorten trials")
        self("prepare")

    def __call__(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run one verb to its good end and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "autoresearch", *arguments],
            cwd=cwd or self.root, env=self._environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def kill_at_step(self, step: str) -> tuple[int, str]:
        """Let the lab kill itself at a step of a trial, then let it go on to its end."""
        before = self._experiments()
        with self._start(f"{step}") as lab:
            seen = _watch(lab)
        assert lab.returncode == -9, lab.returncode
        return 1, self._check(seen, before)

    def kill_at_random(self, num: int, seed: int) -> tuple[int, str]:
        """Kill the lab at random moments, `num` times, and let it go on to its end."""
        chance = random.Random(seed)
        outcomes = set()
        for _ in range(num):
            before = self._experiments()
            with self._start("") as lab:
                threading.Timer(chance.uniform(1.0, 12.0), lab.kill).start()
                seen = _watch(lab)
            outcomes.add(self._check(seen, before))
        return num, "; ".join(sorted(outcomes))

    def lose_terminal(self) -> int:
        """Take the terminal away from a lab that trains, and return its exit code."""
        before = self._experiments()
        master, slave = pty.openpty()
        # The first terminal that the leader of a session opens is its own.
        with subprocess.Popen(
            ["sh", "-c", 'exec "$@" <>"$0" >"$0" 2>&1', os.ttyname(slave), *RUN],
            cwd=self.root,
            env={**self._environment, "TERM": "xterm"},
            start_new_session=True,
        ) as lab:
            shown = b""
            while b"session" not in shown:
                shown += os.read(master, 65536)
            os.close(slave)
            while b" train " not in shown:
                shown += os.read(master, 65536)
            os.close(master)
        after = self._experiments()
        assert len(after) > len(before)
        assert after[-1].verdict
        assert autoresearch.read_session(self.root).state == "finished"
        return lab.returncode

    def _start(self, fault: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            RUN,
            cwd=self.root,
            env={**self._environment, "AUTORESEARCH_FAULT": fault},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _experiments(self) -> list[Experiment]:
        return sorted(autoresearch.read_session(self.root).experiments, key=lambda e: e.number)

    def _check(self, seen: set[Life], before: list[Experiment]) -> str:
        """Look for survivors, go on to the end, and see that nothing recorded was lost."""
        deadline = time.monotonic() + kill_support.SURVIVAL_SECONDS
        while left := [life for life in seen if _is_alive(life)]:
            assert time.monotonic() < deadline, [psutil.Process(pid).cmdline() for pid, _ in left]
            time.sleep(0.02)
        self("run", "--experiments", "1", "--no-confirm")
        after = self._experiments()
        assert [e.number for e in after] == list(range(len(after)))
        assert all(e.verdict for e in after), [e.state for e in after]
        judged = [e for e in before if e.verdict]
        assert [e.commit for e in after[: len(judged)]] == [e.commit for e in judged]
        assert git(self.root, "fsck", "--strict", "--no-dangling") == ""
        assert git(self.root, "status", "--porcelain") == ""
        files = [p for p in (self.root / ".autoresearch" / "trials").rglob("*") if p.is_file()]
        assert not files, files
        return "goes on, no process left"


def _watch(lab: "subprocess.Popen[bytes]") -> set[Life]:
    """Return every process a lab had, until it died."""
    seen: set[Life] = set()
    process = psutil.Process(lab.pid)
    while lab.poll() is None:
        try:
            seen |= {(p.pid, p.create_time()) for p in process.children(recursive=True)}
        except psutil.Error:
            continue
        time.sleep(0.02)
    return seen


def _is_alive(life: Life) -> bool:
    pid, made = life
    try:
        process = psutil.Process(pid)
        return process.create_time() == made and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
