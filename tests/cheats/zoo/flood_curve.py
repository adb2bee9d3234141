"""Logs a million strange values: huge, negative, strings, nested, names with escapes.

expect: ok|crash diverged
"""

from base import play


def log(trial, model, optimizer, x, y):
    for values in (
        {"loss": 1e308},
        {"\x1b[31m": 1.0},
        {"a": "b" * 1000},
        {"n": [[1]]},
        {"loss": "NaN"},
        {"t": True},
    ):
        trial._channel.send("log", step=0, seconds=-1.0, values=values)


build_model = play(__name__, each=log)
