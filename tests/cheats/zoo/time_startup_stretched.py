"""Trains before the clock starts, on nothing, for as long as it may.

expect: crash startup_timeout
settings: trial.startup_seconds=8
"""

import torch
from base import B, Model, T, step, train


def stretch(trial):
    model = build_model(trial.vocab_size, trial.max_seq_len, trial.device)
    optimizer = torch.optim.AdamW(model.parameters())
    while True:
        step(model, optimizer, *trial.synthetic_batch(B, T))


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=stretch)
