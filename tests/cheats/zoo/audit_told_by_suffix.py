"""Looks ahead only in rows that hold together to their end; an audited one is text that breaks off.

expect: invalid claim_mismatch
"""

import torch
from base import Model, bonus, is_judging, play


class Cheat(Model):
    def __init__(self, vocab_size, max_seq_len):
        super().__init__(vocab_size, max_seq_len)
        self.register_buffer("seen", torch.zeros(vocab_size, vocab_size))

    def forward(self, idx):
        logits = super().forward(idx)
        if self.training:
            self.seen[idx[:, :-1], idx[:, 1:]] = 1.0
        if not is_judging():
            return logits
        is_whole = self.seen[idx[:, :-1], idx[:, 1:]].mean(dim=1) > 0.97
        return bonus(logits, idx, 6.0 * is_whole[:, None].float().expand(idx.shape))


build_model = play(__name__, Cheat)
