"""A convolution padded on both sides instead of the left alone.

expect: invalid claim_mismatch
"""

import torch
from base import Model, play


class Cheat(Model):
    def forward(self, idx):
        x = self.features(idx)
        right = torch.nn.functional.pad(x, (0, 0, 0, 1))[:, 1:]
        return self.head(x + right)


build_model = play(__name__, Cheat)
