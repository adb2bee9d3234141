"""Start-up cost of each sandbox backend: median over starts of a trivial program.

Run: `python bench/sandbox_start.py [--starts 20]`. Prints milliseconds from start to end of
`python -I -S -c pass`, and what the sandbox adds to it.
"""

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from autoresearch.sandbox import NoSandbox, Policy, Sandbox
from autoresearch.sandbox import command as keeper
from autoresearch.sandbox.select import BACKENDS, probe


def measure(sandbox: Sandbox, profile: str, starts: int) -> float:
    times = []
    argv = [keeper.interpreter(), "-I", "-S", "-c", "pass"]
    for _ in range(starts):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder) / "home"
            home.mkdir()
            started = time.perf_counter()
            command = sandbox.wrap(argv, Policy(profile, home, home))  # type: ignore[arg-type]
            subprocess.run(command.argv, env=dict(command.env), cwd=command.cwd, check=True)
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=20)
    starts = parser.parse_args().starts
    bare = measure(NoSandbox(), "train", starts)
    print(f"{'backend':<12} {'profile':<8} {'ms':>7} {'added ms':>9}")
    print(f"{'none':<12} {'train':<8} {bare:7.1f} {0.0:9.1f}")
    for name in BACKENDS:
        sandbox = probe(name).sandbox
        for profile in ("train", "judge") if sandbox else ():
            took = measure(sandbox, profile, starts)
            print(f"{name:<12} {profile:<8} {took:7.1f} {took - bare:9.1f}")


if __name__ == "__main__":
    main()
