"""What a disturbed lab comes to: `python bench/faults.py [--kills N] [--seed S]` prints fault, count, outcome.

Runs the real loop with a trainer and a proposer that are formulas; kills it with SIGKILL at every step and at random
moments, fills its disk, makes its folder read-only, leaves git's lock files in its way; starts it again, and compares
record, branch, results.tsv and working tree with those of an undisturbed night. Then kills real trials in a sandbox
and looks for processes that outlive them by two seconds.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "record"))

import kill_support
from kill_support import fill_disk, finish, forbid_writing, kill_at_random, kill_at_step, leave_lock
from real_kills import STEPS, RealLab

from autoresearch.util import killpoints

kill_support.SURVIVAL_SECONDS = 2.0
NUM = 4
"""Experiments of a night, beside the baseline and the confirmation."""
LOCKS = (
    "refs/autoresearch/nov21/journal.lock",
    "refs/autoresearch/nov21/worktree.lock",
    "refs/heads/autoresearch/nov21.lock",
    "HEAD.lock",
    "index.lock",
    "packed-refs.lock",
)


class Table:
    """Prints one fault a line as soon as it is known, and remembers whether any night ended otherwise."""

    def __init__(self) -> None:
        self.num_wrong = 0
        print(f"{'fault':<58} {'count':>5} {'seconds':>8}  outcome", flush=True)

    def row(self, fault: str, run: Callable[[], tuple[int, str]]) -> None:
        """Disturb nights by `run`, which gives how often it did and what came of it."""
        began = time.monotonic()
        try:
            count, outcome = run()
        except AssertionError as exc:
            self.num_wrong += 1
            count, outcome = 0, "DIFFERS: " + " ".join(str(exc).split())[:300]
        seconds = time.monotonic() - began
        print(f"{fault:<58} {count:>5} {seconds:>8.1f}  {outcome}", flush=True)


def formulas(table: Table, folder: Path, num_kills: int, seed: int) -> None:
    """Disturb nights of formulas."""
    undisturbed = folder / "undisturbed"
    finish(undisturbed, NUM)
    same = "identical record"

    def place(name: str) -> Path:
        path = folder / name / "lab"
        path.parent.mkdir()
        return path

    for step in killpoints.STEPS:
        table.row(
            f"kill -9 at {step}, first and second time",
            lambda step=step: (kill_at_step(undisturbed, place(step), NUM, step), same),
        )
    if num_kills:
        table.row(
            f"kill -9 at a random moment, seed {seed}",
            lambda: _random(undisturbed, place("random"), num_kills, seed),
        )
    table.row("disk full, 24 KB more room each time", lambda: _disk(undisturbed, folder / "disk"))
    table.row(
        "folder read-only from each step on",
        lambda: (
            forbid_writing(undisturbed, place("forbidden"), NUM, killpoints.STEPS[:-1]),
            f"clean stop, {same}",
        ),
    )
    for lock in LOCKS:
        for is_ours in (True, False):
            whose = "a killed lab's" if is_ours else "somebody's"
            name = f"{'ours' if is_ours else 'theirs'}-{lock.replace('/', '-')}"
            table.row(
                f"{whose} {lock}",
                lambda lock=lock, is_ours=is_ours, name=name: (
                    1,
                    leave_lock(undisturbed, place(name), NUM, lock, is_ours=is_ours) + f", {same}",
                ),
            )


def _random(undisturbed: Path, root: Path, num_kills: int, seed: int) -> tuple[int, str]:
    nights = kill_at_random(undisturbed, root, NUM, num_kills, seed)
    return num_kills, f"identical record, {nights} nights"


def _disk(undisturbed: Path, folder: Path) -> tuple[int, str]:
    stopped = fill_disk(undisturbed, folder, NUM, 24)
    if stopped is None:
        return 0, "not tried: a small disk cannot be mounted here"
    return stopped, "clean stop, identical record"


def real(table: Table, folder: Path, num_kills: int, seed: int) -> None:
    """Kill labs that train."""
    lab = RealLab(folder / "real")
    for step in STEPS:
        table.row(f"kill -9 of a real trial at {step}", lambda step=step: lab.kill_at_step(step))
    if num_kills:
        table.row(
            f"kill -9 of a real trial at a random moment, seed {seed}",
            lambda: lab.kill_at_random(num_kills, seed),
        )


def main() -> int:
    """Disturb, compare, print; 1 if any night ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="at random moments")
    parser.add_argument("--seed", type=int, default=2, help="of the random moments")
    parser.add_argument("--real-kills", type=int, default=5, help="of real trials, likewise")
    parser.add_argument("--only", choices=("formulas", "real"), help="half of it")
    given = parser.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # another user runs the nights in a read-only folder
        if given.only != "real":
            formulas(table, folder, given.kills, given.seed)
        if given.only != "formulas":
            real(table, folder, given.real_kills, given.seed)
    return int(bool(table.num_wrong))


if __name__ == "__main__":
    raise SystemExit(main())
