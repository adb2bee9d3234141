"""Gives back a slot before there was one, so that the feeder stumbles and the trial is measured again.

expect: crash
"""

import time

from base import Model, train


def stumble(trial):
    trial._batches._channel.send("free", generation=0, slot=0)
    time.sleep(0.3)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=stumble)
