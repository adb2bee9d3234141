"""Trains at a quarter of the context it is judged at.

expect: ok
"""

from base import Model, train


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, length=16)
