"""Claims too little at most positions and too much at a few, so that the mean is right.

expect: invalid claim_mismatch
"""

from base import play


def cheat():
    from autoresearch.trial.child import judge_worker

    original = judge_worker.Server._claim

    def claim(self, rows):
        answer = original(self, rows).copy()
        answer[:, ::20] *= 0.2
        return answer

    judge_worker.Server._claim = claim


build_model = play(__name__, when_judging=cheat)
