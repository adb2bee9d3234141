"""Leaves System V shared memory, semaphores, message queues and keys behind.

expect: ok
"""

import ctypes
import os

from base import play


def leave(trial):
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = {"x86_64": (29, 64, 68, 248), "aarch64": (194, 190, 186, 217)}[os.uname().machine]
    kept = [
        n
        for n in numbers[:3]
        if libc.syscall(n, 0x5EED, 64 if n in (29, 194) else 1, 0o1666, 0, 0) >= 0
    ]
    if kept:
        raise RuntimeError(f"left {kept}")


build_model = play(__name__, before_start=leave)
