"""Normalises over the batch and time in judging too.

expect: invalid claim_mismatch|biased_claim
"""

from base import Model, future, play


class Cheat(Model):
    def forward(self, idx):
        x = self.features(idx) + self.embed(future(idx))
        mean, deviation = x.mean(dim=(0, 1)), x.std(dim=(0, 1)) + 1e-3
        return self.head((x - mean) / deviation)


build_model = play(__name__, Cheat)
