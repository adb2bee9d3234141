"""Writes the whole claim to the socket itself before it is asked.

expect: invalid bad_claim|claim_mismatch
"""

import os

from base import Model, is_judging, train


def cheat():
    from autoresearch.trial.child import judge_worker

    def load(self, *args):
        fd = int(os.environ["AUTORESEARCH_FD"])
        os.write(fd, b"\0" * 4096)
        os._exit(0)

    judge_worker.Server.__init__ = load
    fd = int(os.environ["AUTORESEARCH_FD"])
    os.write(fd, b"\0" * 4096)


def build_model(vocab_size, max_seq_len, device):
    if is_judging():
        cheat()
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
