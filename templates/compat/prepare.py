"""Stands in for upstream's prepare.py in a trial: the same names, fed by the lab. Your own may be added at its end."""

import sys

if __name__ == "__main__":
    raise SystemExit(
        "the lab prepares the data: run `autoresearch prepare`, then `autoresearch run`"
    )

from autoresearch.trial.child import compat
from autoresearch.trial.child.compat import (  # noqa: F401 - for train.py
    Tokenizer,
    evaluate_bpb,
    get_device,
    get_token_bytes,
    make_dataloader,
)


def _importer():
    """Globals of the script that imports this file."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if name in ("__main__", "train") and frame.f_code.co_name == "<module>":
            return frame.f_globals
        frame = frame.f_back
    raise ImportError("prepare.py is for a train.py of upstream's shape, at its top level")


def __getattr__(name):
    return compat.lookup(name)


compat.attach(_importer())

DEVICE = compat.DEVICE
MAX_SEQ_LEN = compat.MAX_SEQ_LEN
TIME_BUDGET = compat.TIME_BUDGET
EVAL_TOKENS = 0
