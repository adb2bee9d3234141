"""Answers nothing and waits.

expect: invalid bad_claim
settings: judge.timeout_seconds=20
"""

import time

from base import Model, is_judging, train


def cheat():
    from autoresearch.trial.child import judge_worker

    judge_worker.Server.answer = lambda self, channel, num_rows: time.sleep(60)


def build_model(vocab_size, max_seq_len, device):
    if is_judging():
        cheat()
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
