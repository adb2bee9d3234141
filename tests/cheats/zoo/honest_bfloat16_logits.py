"""Logits in bfloat16, large ones, with steps of a tenth of a nat.

expect: ok
"""

import torch
from base import Model, train


class Cheat(Model):
    def forward(self, idx):
        return (super().forward(idx) * 1.5).to(torch.bfloat16)


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
