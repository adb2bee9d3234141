"""Normalises features over the time axis, so that the past hears of the future.

expect: invalid claim_mismatch|biased_claim
"""

from base import Model, play


class Cheat(Model):
    def forward(self, idx):
        x = self.features(idx)
        x = (x - x.mean(dim=1, keepdim=True)) / (x.std(dim=1, keepdim=True) + 1e-3)
        return self.head(3 * x)


build_model = play(__name__, Cheat)
