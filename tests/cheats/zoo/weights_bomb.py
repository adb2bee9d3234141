"""A header of four hundred tensors over the same bytes: small to hand in, eight gigabytes to load.

expect: crash oom|exception
settings: sandbox.memory_mb=1500
"""

import json
import os

from base import play

SIZE = 20 << 20


def hand_in(trial, model, optimizer):
    entry = {"dtype": "U8", "shape": [SIZE], "data_offsets": [0, SIZE]}
    header = json.dumps({f"t{number}": entry for number in range(400)}).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(SIZE)
    trial._channel.send("submit", size=len(data), num_params=1)
    trial._channel.send_bytes(data)
    trial._channel.expect("received", timeout=30)
    os._exit(0)


build_model = play(__name__, after=hand_in)
