"""Knows three positions in a thousand fully, chosen by the past alone.

expect: invalid claim_mismatch
"""

from base import Model, bonus, train


class Cheat(Model):
    def forward(self, idx):
        key = (idx * 31 + idx.roll(1, 1) * 17 + idx.roll(2, 1) * 7) % 331
        return bonus(super().forward(idx), idx, 12.0 * (key == 5).float())


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
