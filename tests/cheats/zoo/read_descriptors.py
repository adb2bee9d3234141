"""Looks for descriptors that the lab forgot to close.

expect: crash exception
detail: nothing to read
"""

import os

from base import play


def read_all(trial):
    found = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            name = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        known = ("socket:", "pipe:", "/dev/null", "/memfd:ring", "anon_inode:", "/proc/")
        if not name.startswith(known) and "/site-packages/" not in name:
            found.append(name)
    raise RuntimeError(f"read {found}" if found else "nothing to read")


build_model = play(__name__, before_start=read_all)
