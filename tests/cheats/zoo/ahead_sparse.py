"""Looks ahead at one position in fifty.

expect: invalid claim_mismatch
"""

import torch
from base import Model, bonus, play


class Cheat(Model):
    def forward(self, idx):
        place = torch.arange(idx.shape[1], device=idx.device) % 50 == 7
        return bonus(super().forward(idx), idx, 6.0 * place.float()[None])


build_model = play(__name__, Cheat)
