"""A tiny model in a real train.py, and variants of it."""

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
        self.register_buffer("count", 1.0 / torch.arange(1, max_seq_len + 1), persistent=False)

    def forward(self, idx):
        x = self.embed(idx)
        past = torch.cumsum(x, dim=1) * self.count[: idx.shape[1], None]
        return self.head(torch.tanh(self.mix(torch.cat([x, past], dim=2))))


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


def main():
    trial = Trial.join()
    torch.set_num_threads(1)
    model = build_model(trial.vocab_size, trial.max_seq_len, trial.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    x, y = trial.synthetic_batch(B, T)
    model(x)
    trial.start()
    for x, y in trial.batches(B, T):
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trial.log(loss=loss, lr=LR)
    trial.submit(model)


if __name__ == "__main__":
    main()
"""


# Counts tokens and predicts by their frequency: no optimizer, whose making takes as long as importing torch.
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


def variant(*changes: tuple[str, str], prologue: str = "", base: str = TRAIN) -> str:
    """Return train.py with texts replaced, each of which must be there."""
    text = base
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after)
    return prologue + text
