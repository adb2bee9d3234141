"""Starts the clock with a false message before joining.

expect: crash exception
"""

from base import Model, train


def early(trial):
    trial._channel.send("submit", size=1, num_params=1)
    trial._channel.send_bytes(b"x")


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=early)
