"""A header nested a hundred thousand deep.

expect: crash exception
"""

import os

from base import play


def hand_in(trial, model, optimizer):
    header = b"[" * 100_000
    data = len(header).to_bytes(8, "little") + header
    trial._channel.send("submit", size=len(data), num_params=1)
    trial._channel.send_bytes(data)
    trial._channel.expect("received", timeout=30)
    os._exit(0)


build_model = play(__name__, after=hand_in)
