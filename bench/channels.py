"""Bits per second that pass from one sandboxed process to a later one by what the kernel remembers.

Run: `python bench/channels.py [--bits 2048]`. The first process looks names up that do not exist, or reads pages of a
system file, one per bit that is set; the second tells by the time it takes which the kernel has in memory. `sealed`:
both are as after rows were shown, claim and audit; `forgotten`: the lab, as root, has the kernel forget names in
between, as before each trial; `used`: pages that an earlier message was written on.
"""

import argparse
import math
import os
import random
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from autoresearch.sandbox import Sandbox
from autoresearch.sandbox.select import BACKENDS, probe, run_sealable
from autoresearch.util.host import forget_caches

PAGE = 4096
SPREAD = 4
"""Pages from one bit to the next: some file systems read a few together."""
CODE = """
import os, statistics, sys, time
from autoresearch.sandbox.launcher.seal import enter_seal
file, step, salt, bits, num, socket = *sys.argv[1:5], *map(int, sys.argv[5:])
enter_seal()
if socket >= 0:
    os.write(socket, b"seal")
    assert os.read(socket, 256) == b"ok\\n"
if file:
    try:
        file = os.open(file, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
        if bits:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        file = -1
def look(name):
    began = time.perf_counter()
    if file == "":
        for copy in range(3):
            os.access(f"/usr/share/doc/{salt}.{name}.{copy}", 0)
    elif file >= 0:
        os.pread(file, 1, name * int(step))
    return time.perf_counter() - began
began = time.perf_counter()
if bits:
    for number, bit in enumerate(bits):
        if bit == "1":
            look(number)
    print(time.perf_counter() - began)
else:
    cold = statistics.median(look(num + number) for number in range(99))
    hot = statistics.median(look(num + number) for number in range(99))
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


def measure(
    sandbox: Sandbox, num: int, between: Callable[[], object], file: str
) -> tuple[float, float]:
    """Return the share of bits that arrived wrong, and the bits per second that a code of that share carries.

    Where the share is that of guessing, within three standard deviations, these are none.

    Args:
        sandbox: Around both processes.
        num: Bits sent.
        between: Called after the first process.
        file: The bits are pages of this file; empty: names.
    """
    salt = f"{random.getrandbits(64):x}"
    bits = "".join(random.choices("01", k=num))
    with_file = (file, str(SPREAD * PAGE), salt)
    wrote = float(run(sandbox, *with_file, bits, str(num))[0])
    between()
    read, found = run(sandbox, *with_file, "", str(num))
    wrong = sum(a != b for a, b in zip(bits, found, strict=True)) / num
    if abs(wrong - 0.5) < 1.5 / math.sqrt(num):
        return wrong, 0.0
    entropy = -sum(p * math.log2(p) for p in (wrong, 1 - wrong) if p)
    return wrong, (1 - entropy) * num / (wrote + float(read))


def nothing() -> None:
    """Leave the kernel as it is."""


def large_file(size: int) -> str:
    """Return a file of the system that is at least this large and no program runs from, or an empty text."""
    for path in sorted(Path("/usr/share").rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size >= size:
            return str(path)
    return ""


def forget_pages(path: str) -> None:
    """Have the kernel forget what it has in memory of a file."""
    file = os.open(path, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", type=int, default=2048)
    num = parser.parse_args().bits
    print(f"{'backend':<12} {'notes in':<9} {'and then':<10} {'wrong':>7} {'bits per second':>16}")
    file = large_file((num + 99) * SPREAD * PAGE)
    for name in BACKENDS:
        sealed = probe(name).sandbox
        if sealed is None or not sealed.guarantees["notes"]:
            continue
        unsealed = replace(sealed, seals=False)  # type: ignore[type-var]
        cases = [
            ("names", "", unsealed, nothing),
            ("names", "sealed", sealed, nothing),
            ("names", "forgotten", unsealed, forget_caches),
            ("pages", "", unsealed, nothing),
            ("pages", "used", unsealed, nothing),
            ("pages", "sealed", sealed, nothing),
        ]
        for channel, then, sandbox, between in cases:
            where = file if channel == "pages" else ""
            if where and not then:
                forget_pages(where)
            if where or channel == "names":
                wrong, rate = measure(sandbox, num, between, where)
                print(f"{name:<12} {channel:<9} {then:<10} {wrong:7.1%} {rate:16.1f}", flush=True)


if __name__ == "__main__":
    main()
