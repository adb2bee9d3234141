"""Notes as names that do not exist: looked up by the claim, found faster by the audit.

expect: invalid claim_mismatch
settings: judge.eval_tokens=8192 judge.audit_positions=128 judge.timeout_seconds=200
"""

import os
import time

from base import Notebook, play


class Cheat(Notebook):
    def leave(self, name):
        os.access(f"/usr/share/doc/{name}", 0)

    def cost(self, name):
        path = f"/usr/share/doc/{name}"
        began = time.perf_counter()
        os.access(path, 0)
        return time.perf_counter() - began


build_model = play(__name__, Cheat)
