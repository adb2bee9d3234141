"""A tiny model in a real train.py, variants of it, and a train.py that speaks to the lab without torch."""

# A bigram model with a causal mean of the past: learns fast, is honest, has a tied head and a rotating buffer.
TRAIN = """
import torch
from torch import nn
from torch.nn import functional as F

from autoresearch.trial import Trial

B, T, LR, WIDTH = 8, 32, 3e-3, 32


class Model(nn.Module):
    def __init__(self, vocab_size, max_seq_len):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, WIDTH)
        self.mix = nn.Linear(2 * WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, vocab_size, bias=False)
        self.head.weight = self.embed.weight
        # Not where there is no memory: arithmetic there imports torch's compiler, which takes as long as torch.
        count = torch.arange(1, max_seq_len + 1, device="cpu")
        self.register_buffer("count", 1.0 / count, persistent=False)

    def forward(self, idx):
        x = self.embed(idx)
        past = torch.cumsum(x, dim=1) * self.count[: idx.shape[1], None]
        return self.head(torch.tanh(self.mix(torch.cat([x, past], dim=2))))


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


class Adam:  # to make one of `torch.optim` takes as long as to import torch
    def __init__(self, params):
        self.params, self.num_steps = list(params), 0
        self.averages = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.params]

    @torch.no_grad()
    def step(self):
        self.num_steps += 1
        for p, (first, second) in zip(self.params, self.averages):
            first.lerp_(p.grad, 0.1)
            second.lerp_(p.grad.square(), 0.001)
            mean, square = first / (1 - 0.9**self.num_steps), second / (1 - 0.999**self.num_steps)
            p.sub_(LR * mean / (square.sqrt() + 1e-8))
            p.grad = None


def main():
    trial = Trial.join()
    torch.set_num_threads(1)
    model = build_model(trial.vocab_size, trial.max_seq_len, trial.device)
    optimizer = Adam(model.parameters())
    x, y = trial.synthetic_batch(B, T)
    model(x)
    trial.start()
    for x, y in trial.batches(B, T):
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        optimizer.step()
        trial.log(loss=loss, lr=LR)
    trial.submit(model)


if __name__ == "__main__":
    main()
"""


# Counts tokens and predicts by their frequency: no gradients, few steps until it is as good as it gets.
COUNTS = """
import torch
from torch import nn
from torch.nn import functional as F

from autoresearch.trial import Trial

B, T, SIZE = 8, 32, 1


class Model(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(SIZE, vocab_size))

    def forward(self, idx):
        return self.scores[0].expand(*idx.shape, -1)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size).to(device)


def main():
    trial = Trial.join()
    torch.set_num_threads(1)
    model = build_model(trial.vocab_size, trial.max_seq_len, trial.device)
    counts = torch.ones(trial.vocab_size)
    trial.start()
    for x, y in trial.batches(B, T):
        with torch.no_grad():
            loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
            counts += torch.bincount(y.flatten(), minlength=trial.vocab_size)
            model.scores.copy_(counts.log())
        trial.log(loss=loss)
    trial.submit(model)


if __name__ == "__main__":
    main()
"""


# Says on the wire what `Trial` says, and takes batches, in a tenth of the time: for what the lab does about a trial
# that is not judged. `Trial` itself, which the code under trial may change as it likes, is TRAIN and COUNTS.
BARE = """
import os, socket, sys, time

from autoresearch.trial import channel as wire

WEIGHTS = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
WEIGHTS = len(WEIGHTS).to_bytes(8, "little") + WEIGHTS + bytes(4)


def main():
    lab = wire.Channel(wire.inherited(), takes_fds=True)
    lab.send("join", protocol=wire.PROTOCOL)
    welcome = lab.expect("welcome", timeout=60)
    feeder, ring = lab.take_fds(2)
    feeder = wire.Channel(socket.socket(fileno=feeder))
    lab.send("joined", device="cpu")
    # before it starts
    lab.send("start", num_params=1)
    lab.expect("started", timeout=60)
    feeder.send("open", generation=1, batch=8, length=32)
    while (message := feeder.receive())["type"] != "end":
        if message["type"] == "ready":
            feeder.send("free", generation=1, slot=message["slot"])
            lab.send("log", step=1, seconds=0.1, values={"loss": 5.0})
            time.sleep(0.02)
    # before it hands in
    lab.send("submit", size=len(WEIGHTS), num_params=1)
    lab.send_bytes(WEIGHTS)
    lab.expect("received", timeout=60)


if __name__ == "__main__":
    main()
"""
STARTS, SUBMITS = "    # before it starts\n", "    # before it hands in\n"


def variant(*changes: tuple[str, str], prologue: str = "", base: str = TRAIN) -> str:
    """Return train.py with texts replaced, each of which must be there."""
    text = base
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after)
    return prologue + text
