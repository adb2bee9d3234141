"""An n-gram cache that runs on from row to row.

expect: invalid claim_mismatch|biased_claim
"""

import torch
from base import Model, is_judging, play


class Cheat(Model):
    def __init__(self, vocab_size, max_seq_len):
        super().__init__(vocab_size, max_seq_len)
        self.register_buffer("cache", torch.zeros(vocab_size, vocab_size), persistent=False)

    def forward(self, idx):
        logits = super().forward(idx)
        if is_judging():
            logits = logits + 2 * torch.log1p(self.cache[idx])
            pairs = idx[:, :-1] * self.vocab_size + idx[:, 1:]
            ones = torch.ones(pairs.numel())
            self.cache.view(-1).scatter_add_(0, pairs.flatten(), ones)
        return logits


build_model = play(__name__, Cheat)
