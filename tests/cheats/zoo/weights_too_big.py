"""Announces a petabyte.

expect: crash exception
"""

from base import Model, train


def hand_in(trial, model, optimizer):
    trial._channel.send("submit", size=1 << 50, num_params=1)
    trial._channel.expect("received", timeout=30)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, after=hand_in)
