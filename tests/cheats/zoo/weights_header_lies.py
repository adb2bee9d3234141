"""A safetensors header of four gigabytes, offsets out of bounds.

expect: crash exception|oom
"""

import os

from base import play


def hand_in(trial, model, optimizer):
    header = b'{"embed.weight":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'
    data = (1 << 40).to_bytes(8, "little") + header
    trial._channel.send("submit", size=len(data), num_params=1)
    trial._channel.send_bytes(data)
    trial._channel.expect("received", timeout=30)
    os._exit(0)


build_model = play(__name__, after=hand_in)
