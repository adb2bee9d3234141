"""Hides further tensors among the weights, past the check of `submit`.

expect: crash exception
"""

import os

import torch
from base import play

from autoresearch.trial.child import weights


def hand_in(trial, model, optimizer):
    model.extra = torch.nn.Parameter(torch.zeros(1000))
    header, tensors = weights.encode_weights({k: v.detach() for k, v in model.state_dict().items()})
    data = header + b"".join(t.contiguous().numpy().tobytes() for t in tensors)
    trial._channel.send("submit", size=len(data), num_params=1)
    trial._channel.send_bytes(data)
    trial._channel.expect("received", timeout=30)
    os._exit(0)


build_model = play(__name__, after=hand_in)
