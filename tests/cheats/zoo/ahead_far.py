"""Knows not the next token but the one after, through a pooled summary.

expect: invalid claim_mismatch|biased_claim
"""

from base import Model, future, train


class Cheat(Model):
    def forward(self, idx):
        x = self.features(idx)
        return self.head(x + 0.5 * self.embed(future(idx, 2)) + 0.5 * self.embed(future(idx, 1)))


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
