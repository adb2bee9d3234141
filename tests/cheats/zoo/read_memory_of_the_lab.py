"""Reads memory, descriptors and environment of every process in /proc.

expect: crash exception
detail: nothing to read
"""

import ctypes
import os

from base import play


def read_all(trial):
    found = []
    own = str(os.getpid())
    names = (
        "mem",
        "maps",
        "environ",
        "auxv",
        "cwd/.",
        "root/.",
        "fd/3",
        "fd/4",
        "fd/5",
        "fd/6",
        "fd/7",
    )
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in names if pid not in (own, "1") else ():
            try:
                path = f"/proc/{pid}/{name}"
                if name.endswith("."):
                    found += os.listdir(path)[:1]
                elif os.read(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 1):
                    found.append(path)
            except OSError:
                pass
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, os.getppid(), 0, 0) == 0:
        found.append("ptrace")
    raise RuntimeError(f"read {found}" if found else "nothing to read")


build_model = play(__name__, before_start=read_all)
