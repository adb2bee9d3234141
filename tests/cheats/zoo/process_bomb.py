"""Forks without end.

expect: ok|crash exception|oom|overtime
"""

import os
import time

from base import Model, train


def bomb(trial):
    children = []
    try:
        for _ in range(3000):
            child = os.fork()
            if child == 0:
                time.sleep(30)
                os._exit(0)
            children.append(child)
    except OSError:
        pass
    print("forked", len(children), flush=True)
    assert len(children) < 400


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=bomb)
