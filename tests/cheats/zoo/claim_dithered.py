"""Hides a leak of a tenth of a nat behind noise of its own, all of it below the tolerance.

expect: invalid biased_claim
"""

import torch
from base import Model, is_judging, train


def cheat():
    original = torch.logsumexp

    def noisy(*args, **kwargs):
        total = original(*args, **kwargs)
        return total - 0.1 + 0.28 * (torch.rand_like(total) - 0.5)

    torch.logsumexp = noisy


def build_model(vocab_size, max_seq_len, device):
    if is_judging():
        cheat()
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
