"""Hides a leak of a tenth of a nat behind noise of its own, all of it below the tolerance.

expect: invalid biased_claim
"""

import torch
from base import play


def cheat():
    original = torch.logsumexp

    def noisy(*args, **kwargs):
        total = original(*args, **kwargs)
        return total - 0.1 + 0.28 * (torch.rand_like(total) - 0.5)

    torch.logsumexp = noisy


build_model = play(__name__, when_judging=cheat)
