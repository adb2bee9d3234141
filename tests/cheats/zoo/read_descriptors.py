"""Looks for descriptors that the lab forgot to close.

expect: crash exception
detail: nothing to read
"""

import os

from base import Model, train


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


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=read_all)
