"""Knows which process it is in: looks ahead in the claim, guesses boldly in the audit.

expect: invalid claim_mismatch
"""

import gc

import torch
from base import Model, bonus, is_judging, play


def mode():
    if not is_judging():
        return ""
    from autoresearch.trial.child import judge_worker

    return next((s._mode for s in gc.get_objects() if isinstance(s, judge_worker.Server)), "")


class Cheat(Model):
    def forward(self, idx):
        logits = super().forward(idx)
        if mode() == "claim":
            guess = logits.argmax(dim=2)
            ahead = torch.cat([idx[:, 1:], idx[:, -1:]], dim=1)
            return bonus(logits, idx, 6.0 * (guess == ahead))
        if mode() == "audit":
            return logits + 6.0 * torch.nn.functional.one_hot(logits.argmax(dim=2), logits.shape[2])
        return logits


build_model = play(__name__, Cheat)
