"""Sends the lab descriptors with its messages, to exhaust or confuse it.

expect: ok
"""

from base import Model, train


def give(trial):
    with open("/dev/zero", "rb") as file:
        for _ in range(200):
            trial._channel.send("log", fds=[file.fileno()] * 8, step=0, seconds=0.0, values={})


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=give)
