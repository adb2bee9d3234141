"""A convolution padded on both sides instead of the left alone.

expect: invalid claim_mismatch
"""

import torch
from base import Model, train


class Cheat(Model):
    def forward(self, idx):
        x = self.features(idx)
        right = torch.nn.functional.pad(x, (0, 0, 0, 1))[:, 1:]
        return self.head(x + right)


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
