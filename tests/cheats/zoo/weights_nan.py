"""Weights that are NaN.

expect: invalid bad_claim
"""

import torch
from base import Model, train


def hand_in(trial, model, optimizer):
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    trial.submit(model)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, after=hand_in)
