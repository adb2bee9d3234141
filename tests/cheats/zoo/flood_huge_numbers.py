"""Logs whole numbers that no float holds, to trip the lab over its own arithmetic.

expect: crash nan
"""

from base import Model, train


def log(trial, model, optimizer, x, y):
    trial._channel.send("log", step=0, seconds=0.0, values={"loss": 10**400, "lr": -(10**4000)})


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, each=log)
