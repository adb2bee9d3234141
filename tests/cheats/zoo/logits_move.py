"""Adds fresh noise to the logits in every process.

expect: invalid claim_mismatch
"""

import os

import torch
from base import Model, is_judging, play

GENERATOR = torch.Generator().manual_seed(int.from_bytes(os.urandom(6), "big"))


class Cheat(Model):
    def forward(self, idx):
        logits = super().forward(idx)
        if is_judging():
            logits = logits + 2 * torch.randn(logits.shape, generator=GENERATOR)
        return logits


build_model = play(__name__, Cheat)
