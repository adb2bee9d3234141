"""A plain trainer to measure the template against: a GPT as a textbook has it, under the same lab.

Learned positions, LayerNorm, GELU, `scaled_dot_product_attention`, AdamW on everything, warm-up and cosine; bf16
autocast on CUDA; no compilation. bench/train.py sets the constants to those of the preset it is compared with.
"""

import contextlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoresearch.trial import Trial

DEPTH = 8  # blocks
WIDTH = 512  # channels
NUM_HEADS = 4  # attention heads
CONTEXT = 2048  # tokens in a row
ROWS = 64  # rows in a forward pass
ACCUMULATE = 2  # forward passes in a step
LEARNING_RATE = 0.001  # AdamW
WEIGHT_DECAY = 0.1  # AdamW
WARM_UP = 0.02  # share of the budget over which the rate rises


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(B, T, 3, NUM_HEADS, C // NUM_HEADS).unbind(2)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp(self.norm_2(x))


class GPT(nn.Module):
    """idx (B, T) -> logits (B, T, V)."""

    def __init__(self, vocab_size: int, max_seq_len: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, WIDTH)
        self.positions = nn.Embedding(max_seq_len, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, vocab_size, bias=False)
        for p in self.parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, idx: Tensor) -> Tensor:
        is_cuda = idx.is_cuda
        with torch.autocast("cuda", torch.bfloat16) if is_cuda else contextlib.nullcontext():
            x = self.tokens(idx) + self.positions.weight[: idx.size(1)]
            for block in self.blocks:
                x = block(x)
            logits: Tensor = self.head(self.norm(x))
        return logits.float()


def build_model(vocab_size: int, max_seq_len: int, device: torch.device | str) -> nn.Module:
    """Return the model with initial weights."""
    with torch.device(device):
        return GPT(vocab_size, max_seq_len)


def main() -> None:
    trial = Trial.join()
    torch.set_float32_matmul_precision("high")
    model = build_model(trial.vocab_size, trial.max_seq_len, trial.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY
    )
    trial.start()
    for i, (x, y) in enumerate(trial.batches(ROWS, CONTEXT)):
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        (loss / ACCUMULATE).backward()
        if (i + 1) % ACCUMULATE == 0:
            progress = trial.progress
            rate = 0.5 * (1.0 + math.cos(math.pi * progress))
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * rate * min(1.0, progress / WARM_UP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            trial.log(loss=loss)
    trial.submit(model)


if __name__ == "__main__":
    main()
