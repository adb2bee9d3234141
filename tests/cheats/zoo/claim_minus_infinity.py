"""Claims p = 0 here and there, to break sums.

expect: invalid bad_claim
"""

import numpy as np
from base import play


def cheat():
    from autoresearch.trial.child import judge_worker

    original = judge_worker.Server._claim

    def claim(self, rows):
        answer = original(self, rows).copy()
        answer[:, 3] = -np.inf
        return answer

    judge_worker.Server._claim = claim


build_model = play(__name__, when_judging=cheat)
