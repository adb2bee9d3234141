"""Dies of a signal in each claim that shows it text, so that it is asked without end.

expect: invalid bad_claim
"""

import ctypes

from base import Model, judging_mode, play


class Cheat(Model):
    calls = 0

    def forward(self, idx):
        self.calls += 1
        if self.calls > 1 and judging_mode() == "claim":
            ctypes.string_at(0)
        return super().forward(idx)


build_model = play(__name__, Cheat)
