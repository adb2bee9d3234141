"""Notes as names that do not exist: looked up by the claim, found faster by the audit.

expect: invalid claim_mismatch
settings: judge.eval_tokens=8192 judge.audit_positions=128 judge.timeout_seconds=200
"""

import os
import time

from base import Notebook, train


class Cheat(Notebook):
    def leave(self, name):
        os.access(f"/usr/share/doc/{name}", 0)

    def cost(self, name):
        path = f"/usr/share/doc/{name}"
        began = time.perf_counter()
        os.access(path, 0)
        return time.perf_counter() - began


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
