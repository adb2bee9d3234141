"""Logits in bfloat16, large ones, with steps of a tenth of a nat.

expect: ok
"""

import torch
from base import Model, play


class Cheat(Model):
    def forward(self, idx):
        return (super().forward(idx) * 1.5).to(torch.bfloat16)


build_model = play(__name__, Cheat)
