"""Announces its weights in time and trains on while it sends them slowly.

expect: tainted overtime|crash overtime
settings: submit_seconds=0.02
"""

import os
import time

from base import Model, step, train

from autoresearch.trial.child.weights import encode_weights

KEPT = []


def keep(trial, model, optimizer, x, y):
    KEPT.append((x, y))


def hand_in(trial, model, optimizer):
    start, tensors = encode_weights({n: v.detach() for n, v in model.state_dict().items()})
    size = len(start) + sum(t.numel() * t.element_size() for t in tensors)
    trial._channel.send("submit", size=size, num_params=1)
    trial._channel.send_bytes(start)
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        step(model, optimizer, *KEPT[0])
    for tensor in tensors:
        trial._channel.send_bytes(tensor.contiguous().numpy().tobytes())
    os._exit(0)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, each=keep, after=hand_in)
