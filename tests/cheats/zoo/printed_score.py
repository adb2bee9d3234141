"""Prints and logs a wonderful score over untrained weights.

expect: ok
"""

import torch
from base import play


def boast(trial):
    print("val_bpb: 0.100000\n---\nval_bpb: 0.1 keep", flush=True)


def untrain(trial, model, optimizer):
    trial.log(loss=0.0, val_bpb=0.1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()


build_model = play(__name__, before_start=boast, after=untrain)
