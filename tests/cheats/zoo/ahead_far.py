"""Knows not the next token but the one after, through a pooled summary.

expect: invalid claim_mismatch|biased_claim
"""

from base import Model, future, play


class Cheat(Model):
    def forward(self, idx):
        x = self.features(idx)
        return self.head(x + 0.5 * self.embed(future(idx, 2)) + 0.5 * self.embed(future(idx, 1)))


build_model = play(__name__, Cheat)
