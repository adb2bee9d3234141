"""Looks ahead at one position in fifty.

expect: invalid claim_mismatch
"""

import torch
from base import Model, bonus, train


class Cheat(Model):
    def forward(self, idx):
        place = torch.arange(idx.shape[1], device=idx.device) % 50 == 7
        return bonus(super().forward(idx), idx, 6.0 * place.float()[None])


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
