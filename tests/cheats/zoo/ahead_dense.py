"""Every position is told its own target.

expect: invalid claim_mismatch
"""

from base import Model, bonus, train


class Cheat(Model):
    def forward(self, idx):
        return bonus(super().forward(idx), idx, 5.0)


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
