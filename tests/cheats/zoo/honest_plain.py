"""The model of the zoo as it is.

expect: ok
"""

from base import Model, train


class Cheat(Model):
    def forward(self, idx):
        return super().forward(idx)


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
