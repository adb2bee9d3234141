"""Sends SIGKILL to its parent and to every process it can name.

expect: ok|crash exception
"""

import os
import signal

from base import Model, train


def kill(trial):
    own = os.getpid()
    for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc")))):
        if pid not in (own, 1):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=kill)
