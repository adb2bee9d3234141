"""Normalises over the batch and time in judging too.

expect: invalid claim_mismatch|biased_claim
"""

from base import Model, future, train


class Cheat(Model):
    def forward(self, idx):
        x = self.features(idx) + self.embed(future(idx))
        mean, deviation = x.mean(dim=(0, 1)), x.std(dim=(0, 1)) + 1e-3
        return self.head((x - mean) / deviation)


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
