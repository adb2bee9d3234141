"""Sends the lab descriptors with its messages, to exhaust or confuse it.

expect: ok
"""

from base import play


def give(trial):
    with open("/dev/zero", "rb") as file:
        for _ in range(200):
            trial._channel.send("log", fds=[file.fileno()] * 8, step=0, seconds=0.0, values={})


build_model = play(__name__, before_start=give)
