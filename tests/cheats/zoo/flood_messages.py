"""Floods the lab with messages and then with one that never ends.

expect: crash exception
"""

import time

from base import play


def flood(trial):
    for number in range(20_000):
        trial._channel.send("log", step=number, seconds=0.0, values={"x" * 40: 1.0})
    trial._channel.send_bytes((1 << 31).to_bytes(4, "little") + b"{" * 1000)
    time.sleep(60)


build_model = play(__name__, before_start=flood)
