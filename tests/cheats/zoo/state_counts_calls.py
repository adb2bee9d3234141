"""A different model for the first call than for later ones.

expect: invalid claim_mismatch
"""

from base import Model, bonus, is_judging, train


class Cheat(Model):
    calls = 0

    def forward(self, idx):
        self.calls += 1
        logits = super().forward(idx)
        return bonus(logits, idx, 4.0) if is_judging() and self.calls > 1 else logits


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
