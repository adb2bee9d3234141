"""Hands in a pickle, which its own loader in judging takes; it would be exported under the name of a safe file.

expect: crash exception
detail: no safetensors file
"""

import os
import pickle

from base import Model, is_judging, train

if is_judging():
    from autoresearch.trial.child import judge_worker

    judge_worker.decode_weights = lambda data: pickle.loads(bytes(data))


def hand_in(trial, model, optimizer):
    data = pickle.dumps({name: value.detach() for name, value in model.state_dict().items()})
    trial._channel.send("submit", size=len(data), num_params=1)
    trial._channel.send_bytes(data)
    trial._channel.expect("received", timeout=30)
    os._exit(0)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, after=hand_in)
