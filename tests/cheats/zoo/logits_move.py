"""Adds fresh noise to the logits in every process.

expect: invalid claim_mismatch
"""

import os

import torch
from base import Model, is_judging, train

GENERATOR = torch.Generator().manual_seed(int.from_bytes(os.urandom(6), "big"))


class Cheat(Model):
    def forward(self, idx):
        logits = super().forward(idx)
        if is_judging():
            logits = logits + 2 * torch.randn(logits.shape, generator=GENERATOR)
        return logits


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
