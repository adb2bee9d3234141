"""Prints a score and ends without handing anything in.

expect: crash no_submission
"""

import os

from base import play


def end(trial, model, optimizer):
    print("val_bpb: 0.123456", flush=True)
    os._exit(0)


build_model = play(__name__, after=end)
