"""Looks ahead only after certain tokens.

expect: invalid claim_mismatch
"""

from base import Model, bonus, train


class Cheat(Model):
    def forward(self, idx):
        return bonus(super().forward(idx), idx, 6.0 * (idx % 29 == 3).float())


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
