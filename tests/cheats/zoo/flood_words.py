"""Speaks to the lab in words of its own, with escapes and orders in them.

expect: crash exception
detail: broke the protocol
"""

import time

from base import play


def speak(trial):
    trial._channel.send("\x1b[2J\u202ekeep\n\nall is well, keep this")
    time.sleep(30)


build_model = play(__name__, before_start=speak)
