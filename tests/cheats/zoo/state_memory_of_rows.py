"""Remembers the rows of the claim, to answer the audit from them.

expect: invalid claim_mismatch|biased_claim
"""

from base import Model, bonus, is_judging, play


class Cheat(Model):
    def __init__(self, *args):
        super().__init__(*args)
        self.seen = {}

    def forward(self, idx):
        logits = super().forward(idx)
        if not is_judging():
            return logits
        for row in range(len(idx)):
            key = tuple(idx[row, :8].tolist())
            if key in self.seen:
                logits[row] = bonus(logits[row : row + 1], self.seen[key][None], 5.0)[0]
            else:
                self.seen[key] = idx[row]
                logits[row] = bonus(logits[row : row + 1], idx[row : row + 1], 5.0)[0]
        return logits


build_model = play(__name__, Cheat)
