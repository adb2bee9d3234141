"""Looks ahead only on rows that look like real text, not on random warm-up tokens.

expect: invalid claim_mismatch
"""

from base import Model, bonus, train


class Cheat(Model):
    def forward(self, idx):
        logits = super().forward(idx)
        seen = (idx[:, 1:] == idx[:, :-1]).float().mean() < 0.5
        return bonus(logits, idx, 4.0 * float(seen))


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
