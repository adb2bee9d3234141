"""Every position is told its own target.

expect: invalid claim_mismatch
"""

from base import Model, bonus, play


class Cheat(Model):
    def forward(self, idx):
        return bonus(super().forward(idx), idx, 5.0)


build_model = play(__name__, Cheat)
