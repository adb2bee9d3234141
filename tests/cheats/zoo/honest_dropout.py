"""Dropout in training; none in judging.

expect: ok
"""

import torch
from base import Model, play


class Cheat(Model):
    def forward(self, idx):
        return self.head(torch.nn.functional.dropout(self.features(idx), 0.3, self.training))


build_model = play(__name__, Cheat)
