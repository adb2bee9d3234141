"""Gives back a slot before there was one, so that the feeder stumbles and the trial is measured again.

expect: crash
"""

import time

from base import play


def stumble(trial):
    trial._batches._channel.send("free", generation=0, slot=0)
    time.sleep(0.3)


build_model = play(__name__, before_start=stumble)
