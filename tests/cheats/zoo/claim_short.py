"""Answers half of the claim and leaves.

expect: invalid bad_claim
"""

import os

import numpy as np
from base import Model, is_judging, train


def cheat():
    from autoresearch.trial.child import judge_worker

    def answer(self, channel, num_rows):
        channel.send_bytes(np.zeros(100, np.float32))
        os._exit(0)

    judge_worker.Server.answer = answer


def build_model(vocab_size, max_seq_len, device):
    if is_judging():
        cheat()
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
