"""Honest in training; looks ahead only in a process that judges.

expect: invalid claim_mismatch
"""

from base import Model, bonus, is_judging, play


class Cheat(Model):
    def forward(self, idx):
        logits = super().forward(idx)
        return bonus(logits, idx, 4.0) if is_judging() and not self.training else logits


build_model = play(__name__, Cheat)
