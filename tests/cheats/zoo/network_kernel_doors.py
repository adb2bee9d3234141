"""io_uring, namespaces, BPF, keyrings and shared memory that stays: ways around socket rules.

expect: crash exception
detail: nothing reached
"""

import ctypes
import os

from base import play


def reach(trial):
    found = []
    libc = ctypes.CDLL(None, use_errno=True)
    calls = {
        "x86_64": (425, 272, 321, 250, 29, 310, 298, 323),
        "aarch64": (425, 97, 280, 219, 194, 270, 241, 282),
    }
    for number in calls[os.uname().machine]:
        first = 0x40000000 if number in (272, 97) else 0
        if libc.syscall(number, first, 4096, 0o666 | 0o1000, 0, 0) >= 0:
            found.append(number)
    raise RuntimeError(f"reached {found}" if found else "nothing reached")


build_model = play(__name__, before_start=reach)
