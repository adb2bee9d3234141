"""Announces a petabyte.

expect: crash exception
"""

from base import play


def hand_in(trial, model, optimizer):
    trial._channel.send("submit", size=1 << 50, num_params=1)
    trial._channel.expect("received", timeout=30)


build_model = play(__name__, after=hand_in)
