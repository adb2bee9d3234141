"""Writes into the memory of every process it can name, its parent first.

expect: crash exception
detail: nothing to write
"""

import os

from base import Model, train


def write_all(trial):
    found = []
    own = os.getpid()
    for pid in [os.getppid(), *map(int, filter(str.isdigit, os.listdir("/proc")))]:
        for name in ("mem", "clear_refs", "oom_score_adj", "comm", "coredump_filter"):
            try:
                if pid not in (own, 1):
                    os.close(os.open(f"/proc/{pid}/{name}", os.O_WRONLY))
                    found.append(f"{pid} {name}")
            except OSError:
                pass
    raise RuntimeError(f"wrote {found}" if found else "nothing to write")


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=write_all)
