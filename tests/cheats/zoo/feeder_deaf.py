"""Asks for batches a hundred thousand times and never reads an answer.

expect: crash overtime|exception|hung
settings: hung_seconds=3
"""

from base import Model, train


def spam(trial, model, optimizer, x, y):
    for number in range(100_000):
        trial._batches._channel.send("open", generation=number + 2, batch=1, length=1)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, each=spam)
