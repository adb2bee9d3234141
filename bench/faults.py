"""What a killed lab leaves behind: `python bench/faults.py [KILLS]` prints fault, count, outcome.

Runs the real loop with a trainer and a proposer that are formulas, kills it with SIGKILL at every step and at random
moments, starts it again, and compares record, branch, results.tsv and working tree with those of an undisturbed night.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "record"))

from kill_support import kill_at_random, kill_at_step, run_night

from autoresearch import faults

NUM = 4


def main() -> int:
    """Kill, compare, print; 1 if any night ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int, nargs="?", default=200)
    num_kills = parser.parse_args().kills
    num_wrong = 0
    print(f"{'fault':<34} {'kills':>5} {'nights':>6} {'seconds':>8}  outcome")
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Path(folder) / "undisturbed"
        run_night(undisturbed, NUM)
        for step in [*faults.STEPS, "random moment"]:
            if step == "confirmed":  # the formulas are not confirmed
                continue
            root = Path(folder) / step.replace(" ", "-") / "lab"
            root.parent.mkdir()
            began, nights, outcome = time.monotonic(), 1, "identical record"
            try:
                if step == "random moment":
                    kills = num_kills
                    nights = kill_at_random(undisturbed, root, NUM, num_kills, seed=2)
                else:
                    kills = kill_at_step(undisturbed, root, NUM, step)
            except AssertionError as exc:
                outcome = f"DIFFERS: {exc}".split("\n", 1)[0]
                num_wrong += 1
            seconds = time.monotonic() - began
            print(
                f"kill -9 at {step:<23} {kills:>5} {nights:>6} {seconds:>8.1f}  {outcome}",
                flush=True,
            )
    return int(bool(num_wrong))


if __name__ == "__main__":
    raise SystemExit(main())
