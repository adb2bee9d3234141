"""Weights that are NaN.

expect: invalid bad_claim
"""

import torch
from base import play


def hand_in(trial, model, optimizer):
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    trial.submit(model)


build_model = play(__name__, after=hand_in)
