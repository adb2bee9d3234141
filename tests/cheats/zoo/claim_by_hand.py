"""Writes the whole claim to the socket itself before it is asked.

expect: invalid bad_claim|claim_mismatch
"""

import os

from base import play


def cheat():
    from autoresearch.trial.child import judge_worker

    def load(self, *args):
        fd = int(os.environ["AUTORESEARCH_FD"])
        os.write(fd, b"\0" * 4096)
        os._exit(0)

    judge_worker.Server.__init__ = load
    fd = int(os.environ["AUTORESEARCH_FD"])
    os.write(fd, b"\0" * 4096)


build_model = play(__name__, when_judging=cheat)
