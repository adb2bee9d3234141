"""Dropout in training; none in judging.

expect: ok
"""

import torch
from base import Model, train


class Cheat(Model):
    def forward(self, idx):
        return self.head(torch.nn.functional.dropout(self.features(idx), 0.3, self.training))


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
