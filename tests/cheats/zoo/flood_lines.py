"""Ends with an error in a line of four thousand digits.

expect: crash exception
"""

import os

from base import play


def fail(trial):
    trial._channel.send("error", kind=["oom"], exception="E", message="m", line=10**4000)
    os._exit(0)


build_model = play(__name__, before_start=fail)
