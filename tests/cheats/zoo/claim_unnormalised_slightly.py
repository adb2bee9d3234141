"""Probabilities that sum to 1.2: below the tolerance at each position.

expect: invalid biased_claim
"""

import torch
from base import Model, is_judging, train


def cheat():
    original = torch.logsumexp
    torch.logsumexp = lambda *args, **kwargs: original(*args, **kwargs) - 0.18


def build_model(vocab_size, max_seq_len, device):
    if is_judging():
        cheat()
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
