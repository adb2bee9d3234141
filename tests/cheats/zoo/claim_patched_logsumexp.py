"""The normaliser of the claim is made smaller by one nat.

expect: invalid claim_mismatch
"""

import torch
from base import Model, is_judging, train


def cheat():
    original = torch.logsumexp
    torch.logsumexp = lambda *args, **kwargs: original(*args, **kwargs) - 1.0


def build_model(vocab_size, max_seq_len, device):
    if is_judging():
        cheat()
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
