"""Honest in training; looks ahead only in a process that judges.

expect: invalid claim_mismatch
"""

from base import Model, bonus, is_judging, train


class Cheat(Model):
    def forward(self, idx):
        logits = super().forward(idx)
        return bonus(logits, idx, 4.0) if is_judging() and not self.training else logits


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
