"""Confident and wrong: worse than guessing.

expect: ok
"""

from base import Model, train


class Wrong(Model):
    def forward(self, idx):
        logits = super().forward(idx)
        return logits if self.training else -6.0 * logits


def build_model(vocab_size, max_seq_len, device):
    return Wrong(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
