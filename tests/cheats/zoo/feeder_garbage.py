"""Sends the feeder what is no message.

expect: crash exception|overtime|hung|no_submission
settings: hung_seconds=3
"""

from base import play


def send(trial, model, optimizer, x, y):
    channel = trial._batches._channel
    channel.send("open", generation=-1, batch=1 << 40, length=0)
    channel.send("free", generation=[], slot={})
    channel.send_bytes(b"\xff" * 10_000)


build_model = play(__name__, each=send)
