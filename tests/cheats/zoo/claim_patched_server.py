"""Replaces the function of the lab that makes the claim: every p is one.

expect: invalid claim_mismatch
"""

import numpy as np
from base import play


def cheat():
    from autoresearch.trial.child import judge_worker

    judge_worker.Server._claim = lambda self, rows: np.zeros(
        (len(rows), rows.shape[1] - 1), np.float32
    )


build_model = play(__name__, when_judging=cheat)
