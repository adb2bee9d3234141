"""The normaliser of the claim is made smaller by one nat.

expect: invalid claim_mismatch
"""

import torch
from base import play


def cheat():
    original = torch.logsumexp
    torch.logsumexp = lambda *args, **kwargs: original(*args, **kwargs) - 1.0


build_model = play(__name__, when_judging=cheat)
