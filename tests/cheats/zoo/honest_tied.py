"""One matrix for embedding, every layer and the head.

expect: ok
"""

import torch
from base import WIDTH, play


class Tied(torch.nn.Module):
    def __init__(self, vocab_size, max_seq_len):
        super().__init__()
        self.embed = torch.nn.Embedding(vocab_size, WIDTH)
        layer = torch.nn.Linear(WIDTH, WIDTH)
        self.layers = torch.nn.ModuleList([layer, layer, layer])
        self.head = torch.nn.Linear(WIDTH, vocab_size, bias=False)
        self.head.weight = self.embed.weight
        torch.nn.init.normal_(self.embed.weight, std=0.2)

    def forward(self, idx):
        x = self.embed(idx)
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        return self.head(x)


build_model = play(__name__, Tied)
