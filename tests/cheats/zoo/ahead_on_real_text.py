"""Looks ahead only on rows that look like real text, not on random warm-up tokens.

expect: invalid claim_mismatch
"""

from base import Model, bonus, play


class Cheat(Model):
    def forward(self, idx):
        logits = super().forward(idx)
        seen = (idx[:, 1:] == idx[:, :-1]).float().mean() < 0.5
        return bonus(logits, idx, 4.0 * float(seen))


build_model = play(__name__, Cheat)
