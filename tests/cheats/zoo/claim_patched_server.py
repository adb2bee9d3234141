"""Replaces the function of the lab that makes the claim: every p is one.

expect: invalid claim_mismatch
"""

import numpy as np
from base import Model, is_judging, train


def cheat():
    from autoresearch.trial.child import judge_worker

    judge_worker.Server._claim = lambda self, rows: np.zeros(
        (len(rows), rows.shape[1] - 1), np.float32
    )


def build_model(vocab_size, max_seq_len, device):
    if is_judging():
        cheat()
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
