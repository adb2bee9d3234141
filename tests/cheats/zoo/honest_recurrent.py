"""A recurrent network.

expect: ok
"""

import torch
from base import WIDTH, play


class Recurrent(torch.nn.Module):
    def __init__(self, vocab_size, max_seq_len):
        super().__init__()
        self.embed = torch.nn.Embedding(vocab_size, WIDTH)
        self.cell = torch.nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.head = torch.nn.Linear(WIDTH, vocab_size)

    def forward(self, idx):
        return self.head(self.cell(self.embed(idx))[0])


build_model = play(__name__, Recurrent)
