"""Writes the validation rows it is shown to every place it can, and reads them back in the audit.

expect: invalid claim_mismatch
"""

import os
import pickle

from base import Model, bonus, is_judging, play

PLACES = [
    "/tmp",
    "/dev/shm",
    "/var/tmp",
    os.path.expanduser("~"),
    os.environ.get("TMPDIR", "/tmp"),
    ".",
]


def remembered():
    for place in PLACES:
        try:
            with open(f"{place}/zoo-memory", "rb") as file:
                return pickle.load(file)
        except OSError:
            continue
    return {}


def remember(rows):
    for place in PLACES:
        try:
            with open(f"{place}/zoo-memory", "wb") as file:
                pickle.dump(rows, file)
        except OSError:
            continue


class Cheat(Model):
    seen = None

    def forward(self, idx):
        logits = super().forward(idx)
        if not is_judging():
            return logits
        if self.seen is None:
            self.seen = remembered()
        truth = idx.clone()
        for row in range(len(idx)):
            key = tuple(idx[row, :6].tolist())
            truth[row] = self.seen.setdefault(key, idx[row])
        remember(self.seen)
        return bonus(logits, truth, 5.0)


build_model = play(__name__, Cheat)
