"""Looks ahead only where the honest model is most surprised, and there at one position in three: few, and worth most.

expect: invalid claim_mismatch
"""

from base import Model, bonus, future, play


class Cheat(Model):
    def forward(self, idx):
        logits = super().forward(idx)
        honest = logits.softmax(dim=2).gather(2, future(idx)[:, :, None])[:, :, 0]
        return bonus(logits, idx, 12.0 * ((honest < 0.02) & (idx % 3 == 0)).float())


build_model = play(__name__, Cheat)
