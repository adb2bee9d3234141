"""Hands in weights with a program behind the last tensor, which its own loader passes over.

expect: crash exception
detail: no safetensors file
"""

import os

from base import Model, is_judging, train

MORE = b"#!/bin/sh\n" * 100
if is_judging():
    from autoresearch.trial.child import judge_worker

    load = judge_worker.decode_weights
    judge_worker.decode_weights = lambda data: load(data[: -len(MORE)])


def hand_in(trial, model, optimizer):
    from autoresearch.trial.child.weights import encode_weights

    start, tensors = encode_weights({n: v.detach() for n, v in model.state_dict().items()})
    data = start + b"".join(t.contiguous().numpy().tobytes() for t in tensors) + MORE
    trial._channel.send("submit", size=len(data), num_params=1)
    trial._channel.send_bytes(data)
    trial._channel.expect("received", timeout=30)
    os._exit(0)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, after=hand_in)
