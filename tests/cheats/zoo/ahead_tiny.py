"""A leak below the tolerance at every position: a tenth of a nat.

expect: invalid biased_claim
"""

from base import Model, bonus, train


class Cheat(Model):
    def forward(self, idx):
        return bonus(super().forward(idx), idx, 0.12)


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
