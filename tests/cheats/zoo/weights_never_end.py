"""Announces more than it sends and waits.

expect: crash overtime
"""

import time

from base import play


def hand_in(trial, model, optimizer):
    trial._channel.send("submit", size=1_000_000, num_params=1)
    trial._channel.send_bytes(b"x" * 1000)
    time.sleep(60)


build_model = play(__name__, after=hand_in)
