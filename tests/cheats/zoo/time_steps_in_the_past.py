"""Starts the clock with a false message before joining.

expect: crash exception
"""

from base import play


def early(trial):
    trial._channel.send("submit", size=1, num_params=1)
    trial._channel.send_bytes(b"x")


build_model = play(__name__, before_start=early)
