"""A leak below the tolerance at every position: a tenth of a nat.

expect: invalid biased_claim
"""

from base import Model, bonus, play


class Cheat(Model):
    def forward(self, idx):
        return bonus(super().forward(idx), idx, 0.12)


build_model = play(__name__, Cheat)
