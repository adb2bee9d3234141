"""Answers nothing and waits.

expect: invalid bad_claim
settings: judge.timeout_seconds=20
"""

import time

from base import play


def cheat():
    from autoresearch.trial.child import judge_worker

    judge_worker.Server.answer = lambda self, channel, num_rows: time.sleep(60)


build_model = play(__name__, when_judging=cheat)
