"""Bits per second that pass from one judge process to a later one by names looked up, with and without the seal.

Run: `python bench/channels.py [--bits 2048]`. The first process looks names up that do not exist, one per bit that is
set; the second tells by the time a look-up takes which the kernel remembers. Sealed, both are as after rows were shown.
"""

import argparse
import math
import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from autoresearch.sandbox import Sandbox
from autoresearch.sandbox.select import BACKENDS, probe, run_sealable

CODE = """
import os, statistics, sys, time
from autoresearch.sandbox.launcher.seal import enter_seal
salt, bits, num, socket = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
enter_seal()
if socket >= 0:
    os.write(socket, b"seal")
    assert os.read(socket, 256) == b"ok\\n"
def look(name):
    began = time.perf_counter()
    for copy in range(3):
        os.access(f"/usr/share/doc/{salt}.{name}.{copy}", 0)
    return time.perf_counter() - began
began = time.perf_counter()
if bits:
    for number, bit in enumerate(bits):
        if bit == "1":
            look(number)
    print(time.perf_counter() - began)
else:
    cold = statistics.median(look(f"known.{number}") for number in range(99))
    hot = statistics.median(look(f"known.{number}") for number in range(99))
    found = "".join(str(int(look(number) < (hot + cold) / 2)) for number in range(num))
    print(time.perf_counter() - began, found)
"""


def run(sandbox: Sandbox, *arguments: str) -> list[str]:
    """Return the words that a child printed which was sealed if the sandbox can."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        argv = [sys.executable, "-S", "-c", CODE, *arguments]
        done = run_sealable(sandbox, "judge", home, argv)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.split()


def measure(sandbox: Sandbox, num: int) -> tuple[float, float]:
    """Return the share of bits that arrived wrong, and the bits per second that a code of that share carries.

    Where the share is that of guessing, within three standard deviations, these are none.
    """
    salt = f"{random.getrandbits(64):x}"
    bits = "".join(random.choices("01", k=num))
    wrote = float(run(sandbox, salt, bits, str(num))[0])
    read, found = run(sandbox, salt, "", str(num))
    wrong = sum(a != b for a, b in zip(bits, found, strict=True)) / num
    if abs(wrong - 0.5) < 1.5 / math.sqrt(num):
        return wrong, 0.0
    entropy = -sum(p * math.log2(p) for p in (wrong, 1 - wrong) if p)
    return wrong, (1 - entropy) * num / (wrote + float(read))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", type=int, default=2048)
    num = parser.parse_args().bits
    print(f"{'backend':<12} {'sealed':<8} {'wrong':>7} {'bits per second':>16}")
    for name in BACKENDS:
        sandbox = probe(name).sandbox
        for seals in (False, True) if sandbox and sandbox.guarantees["notes"] else ():
            wrong, rate = measure(replace(sandbox, seals=seals), num)  # type: ignore[type-var]
            print(f"{name:<12} {'yes' if seals else 'no':<8} {wrong:7.1%} {rate:16.1f}")


if __name__ == "__main__":
    main()
