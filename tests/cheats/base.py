"""An honest tiny model and its training loop; every train.py of the zoo is built from it and differs in one way."""

import sys

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
        self.register_buffer(
            "count", 1.0 / torch.arange(1, max_seq_len + 1, device="cpu"), persistent=False
        )

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


class Adam:
    """Adam (Kingma & Ba 2014); to make one of `torch.optim` takes as long as to import torch."""

    def __init__(self, params, lr=LR):
        self.params, self.lr, self.num_steps = list(params), lr, 0
        self.averages = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.params]

    def zero_grad(self):
        for p in self.params:
            p.grad = None

    @torch.no_grad()
    def step(self):
        self.num_steps += 1
        for p, (first, second) in zip(self.params, self.averages, strict=True):
            if p.grad is None:
                continue
            first.lerp_(p.grad, 0.1)
            second.lerp_(p.grad.square(), 0.001)
            mean, square = first / (1 - 0.9**self.num_steps), second / (1 - 0.999**self.num_steps)
            p.sub_(self.lr * mean / (square.sqrt() + 1e-8))


def play(name, make=Model, *, when_judging=None, **places):
    """Return the `build_model` of a cheat, after training where its module is run: where `name` is `__main__`.

    Args:
        name: `__name__` of the cheat.
        make: Makes its model.
        when_judging: Called before that in the process of a judge.
        places: Where it stands in `train`.
    """

    def build_model(vocab_size, max_seq_len, device):
        if when_judging and is_judging():
            when_judging()
        return make(vocab_size, max_seq_len).to(device)

    if name == "__main__":
        sys.modules[name].build_model = build_model  # where `Trial.join` looks for it
        train(build_model, **places)
    return build_model


def train(build_model, *, before_start=None, after=None, length=T, each=None):
    """Train as an honest script does; the arguments are places for a cheat to stand."""
    torch.set_num_threads(1)
    trial = Trial.join()
    model = build_model(trial.vocab_size, trial.max_seq_len, trial.device)
    optimizer = Adam(model.parameters())
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


class Notebook(Model):
    """Leaves each target where the audit may find it, under a name made of all tokens before it; raises what it knows.

    A case has two methods: `leave(name)` leaves a note, `cost(name)` is what it costs to look for one, less where it
    was left.
    """

    START, BITS, COPIES = 4, 9, 3

    def names(self, key, bit, value):
        return [f"{key & (1 << 60) - 1:x}.{bit}{value}{copy}" for copy in range(self.COPIES)]

    def write(self, key, target):
        for bit in range(self.BITS):
            for name in self.names(key, bit, target >> bit & 1):
                self.leave(name)
        return target

    def read(self, key):
        found = 0
        for bit in range(self.BITS):
            costs = [
                sorted(map(self.cost, self.names(key, bit, v)))[self.COPIES // 2] for v in (0, 1)
            ]
            found |= (costs[1] < costs[0]) << bit
        return found

    def forward(self, idx):
        logits = super().forward(idx)
        mode = judging_mode() if is_judging() else ""
        if not mode:
            return logits
        known = self.__dict__.setdefault("known", {})
        truth = idx.clone()
        run = self.head.weight.double().sum().item()  # Other names than those of an earlier run.
        for b, row in enumerate(idx.tolist()):
            key = hash((run, *row[: self.START]))
            for t in range(self.START, len(row) - 1):
                key = hash((key, row[t]))
                if key not in known:
                    known[key] = self.write(key, row[t + 1]) if mode == "claim" else self.read(key)
                truth[b, t + 1] = min(known[key], logits.shape[2] - 1)
        return bonus(
            logits, truth, 6.0 * (torch.arange(idx.shape[1]) >= self.START).expand(idx.shape)
        )


def judging_mode():
    """Return `claim`, `audit`, or nothing while the server is still being made."""
    import gc

    from autoresearch.trial.child import judge_worker

    return next((s._mode for s in gc.get_objects() if isinstance(s, judge_worker.Server)), "")
