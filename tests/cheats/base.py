"""An honest tiny model and its training loop; every train.py of the zoo is built from it and differs in one way."""

import torch
from torch import nn
from torch.nn import functional as F

from autoresearch.trial import Trial

B, T, LR, WIDTH = 8, 64, 5e-3, 32


class Model(nn.Module):
    """A causal mean of the past beside the present token."""

    def __init__(self, vocab_size, max_seq_len):
        super().__init__()
        self.vocab_size = vocab_size
        self.embed = nn.Embedding(vocab_size, WIDTH)
        self.mix = nn.Linear(2 * WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, vocab_size, bias=False)
        self.register_buffer("count", 1.0 / torch.arange(1, max_seq_len + 1), persistent=False)

    def features(self, idx):
        x = self.embed(idx)
        past = torch.cumsum(x, dim=1) * self.count[: idx.shape[1], None]
        return torch.tanh(self.mix(torch.cat([x, past], dim=2)))

    def forward(self, idx):
        return self.head(self.features(idx))


def future(idx, steps=1):
    """Return the token that comes `steps` later; the last ones repeat."""
    return torch.cat([idx[:, steps:], idx[:, -1:].expand(-1, steps)], dim=1)


def bonus(logits, idx, size):
    """Return logits raised by `size` (a number or a tensor like idx) at the true next token."""
    size = torch.as_tensor(size, dtype=logits.dtype).expand(idx.shape).clone()
    size[:, -1] = 0.0
    return logits.scatter_add(2, future(idx)[:, :, None], size[:, :, None])


def is_judging():
    """Whether this process claims or audits: the trainer runs train.py as __main__."""
    return "autoresearch.trial.child.judge_worker" in __import__("sys").modules


def step(model, optimizer, x, y):
    loss = F.cross_entropy(model(x).flatten(0, 1).float(), y.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def train(build_model, *, before_start=None, after=None, length=T, each=None):
    """Train as an honest script does; the arguments are places for a cheat to stand."""
    torch.set_num_threads(1)
    trial = Trial.join()
    model = build_model(trial.vocab_size, trial.max_seq_len, trial.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    if before_start:
        before_start(trial)
    trial.start()
    for x, y in trial.batches(B, length):
        loss = step(model, optimizer, x, y)
        trial.log(loss=loss)
        if each:
            each(trial, model, optimizer, x, y)
    if after:
        after(trial, model, optimizer)
    trial.submit(model)
