"""Answers half of the claim and leaves.

expect: invalid bad_claim
"""

import os

import numpy as np
from base import play


def cheat():
    from autoresearch.trial.child import judge_worker

    def answer(self, channel, num_rows):
        channel.send_bytes(np.zeros(100, np.float32))
        os._exit(0)

    judge_worker.Server.answer = answer


build_model = play(__name__, when_judging=cheat)
