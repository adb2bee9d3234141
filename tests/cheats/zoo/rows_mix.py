"""Each row sees the average of the batch, its own future included.

expect: invalid claim_mismatch|biased_claim
"""

from base import Model, future, train


class Cheat(Model):
    def forward(self, idx):
        x = self.features(idx)
        return self.head(x + 4 * self.embed(future(idx)).mean(dim=0, keepdim=True))


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
