"""A different model for the first call than for later ones.

expect: invalid claim_mismatch
"""

from base import Model, bonus, is_judging, play


class Cheat(Model):
    calls = 0

    def forward(self, idx):
        self.calls += 1
        logits = super().forward(idx)
        return bonus(logits, idx, 4.0) if is_judging() and self.calls > 1 else logits


build_model = play(__name__, Cheat)
