"""Attention without a causal mask: the mean runs over the whole row.

expect: invalid claim_mismatch|biased_claim
"""

import torch
from base import Model, future, play


class Cheat(Model):
    def forward(self, idx):
        x = self.embed(idx)
        whole = x.mean(dim=1, keepdim=True).expand_as(x)
        after = self.embed(future(idx))
        return self.head(torch.tanh(self.mix(torch.cat([x + after, whole], dim=2))))


build_model = play(__name__, Cheat)
