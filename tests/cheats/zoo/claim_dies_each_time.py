"""Dies of a signal in each claim that shows it text, so that it is asked without end.

expect: invalid bad_claim
"""

import ctypes

from base import Model, judging_mode, train


class Cheat(Model):
    calls = 0

    def forward(self, idx):
        self.calls += 1
        if self.calls > 1 and judging_mode() == "claim":
            ctypes.string_at(0)
        return super().forward(idx)


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
