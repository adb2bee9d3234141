"""Looks ahead only after certain tokens.

expect: invalid claim_mismatch
"""

from base import Model, bonus, play


class Cheat(Model):
    def forward(self, idx):
        return bonus(super().forward(idx), idx, 6.0 * (idx % 29 == 3).float())


build_model = play(__name__, Cheat)
