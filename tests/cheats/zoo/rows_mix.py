"""Each row sees the average of the batch, its own future included.

expect: invalid claim_mismatch|biased_claim
"""

from base import Model, future, play


class Cheat(Model):
    def forward(self, idx):
        x = self.features(idx)
        return self.head(x + 4 * self.embed(future(idx)).mean(dim=0, keepdim=True))


build_model = play(__name__, Cheat)
