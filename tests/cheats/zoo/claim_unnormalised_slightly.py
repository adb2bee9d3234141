"""Probabilities that sum to 1.2: below the tolerance at each position.

expect: invalid biased_claim
"""

import torch
from base import play


def cheat():
    original = torch.logsumexp
    torch.logsumexp = lambda *args, **kwargs: original(*args, **kwargs) - 0.18


build_model = play(__name__, when_judging=cheat)
