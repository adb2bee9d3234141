"""Hands in a torch archive with a pickle in it.

expect: crash exception
"""

import io
import os

import torch
from base import play
from known import CANARY


def hand_in(trial, model, optimizer):
    class Payload:
        def __reduce__(self):
            return (os.system, (f"touch {CANARY}",))

    buffer = io.BytesIO()
    torch.save(Payload(), buffer)
    data = buffer.getvalue()
    trial._channel.send("submit", size=len(data), num_params=1)
    trial._channel.send_bytes(data)
    trial._channel.expect("received", timeout=30)
    os._exit(0)


build_model = play(__name__, after=hand_in)
