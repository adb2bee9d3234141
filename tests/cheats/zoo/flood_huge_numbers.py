"""Logs whole numbers that no float holds, to trip the lab over its own arithmetic.

expect: crash nan
"""

from base import play


def log(trial, model, optimizer, x, y):
    trial._channel.send("log", step=0, seconds=0.0, values={"loss": 10**400, "lr": -(10**4000)})


build_model = play(__name__, each=log)
