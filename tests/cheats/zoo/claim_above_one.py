"""Claims probabilities above one.

expect: invalid bad_claim
"""

import numpy as np
from base import play


def cheat():
    from autoresearch.trial.child import judge_worker

    judge_worker.Server._claim = lambda self, rows: np.ones(
        (len(rows), rows.shape[1] - 1), np.float32
    )


build_model = play(__name__, when_judging=cheat)
