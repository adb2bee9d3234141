"""A flat script in the shape of karpathy's autoresearch: put your own train.py in its place.

prepare.py next to it feeds it with the lab's data and clock. What a script of this shape needs:
- `model` and its optimizers are made before the first batch is taken, and so is an autocast;
- `model(idx, targets)` gives the loss, `model(idx)` the logits (B, T, vocab_size);
- `evaluate_bpb(model, ...)` at the end: its model is judged when the script ends. The judge's val_bpb counts.
"""

import time
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from prepare import DEVICE, MAX_SEQ_LEN, TIME_BUDGET, Tokenizer, evaluate_bpb, make_dataloader

DEPTH = 4  # blocks; range 1 to 16
WIDTH = 128  # channels; range 64 to 1024; multiple of 64
HEAD_DIM = 64  # channels of a head; fixed
DEVICE_BATCH_SIZE = 8  # rows in a forward pass; range 1 to 256
TOTAL_BATCH_SIZE = 8 * MAX_SEQ_LEN  # tokens in an optimizer step
LEARNING_RATE = 0.003  # AdamW; range 0.0001 to 0.03
WEIGHT_DECAY = 0.1  # AdamW; range 0 to 0.5
WARMDOWN_RATIO = 0.5  # share of the budget over which the rate falls; range 0 to 1


@dataclass
class GPTConfig:
    sequence_len: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_head = config.n_head
        self.c_qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.c_out = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def forward(self, x):
        B, T, C = x.shape
        qkv = self.c_qkv(F.rms_norm(x, (C,))).view(B, T, 3, self.n_head, C // self.n_head)
        q, k, v = (t.transpose(1, 2) for t in qkv.unbind(2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.c_out(F.relu(self.c_fc(F.rms_norm(x, (C,)))).square())


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.sequence_len, config.n_embd)
        self.h = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def forward(self, idx, targets=None):
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1), device=idx.device))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(F.rms_norm(x, (x.size(-1),))).float()
        if targets is None:
            return logits
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


torch.manual_seed(42)
is_cuda = DEVICE.type == "cuda"
autocast_ctx = torch.amp.autocast(device_type=DEVICE.type, dtype=torch.bfloat16, enabled=is_cuda)

tokenizer = Tokenizer.from_directory()
config = GPTConfig(MAX_SEQ_LEN, tokenizer.get_vocab_size(), DEPTH, WIDTH // HEAD_DIM, WIDTH)
model = GPT(config).to(DEVICE)
optimizer = torch.optim.AdamW(
    model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY
)
for group in optimizer.param_groups:
    group["initial_lr"] = group["lr"]
if is_cuda:
    model = torch.compile(model, dynamic=False)

grad_accum_steps = TOTAL_BATCH_SIZE // (DEVICE_BATCH_SIZE * MAX_SEQ_LEN)
train_loader = make_dataloader(tokenizer, DEVICE_BATCH_SIZE, MAX_SEQ_LEN, "train")
x, y, epoch = next(train_loader)
started = time.time()
step = 0
while True:
    for _ in range(grad_accum_steps):
        with autocast_ctx:
            loss = model(x, y)
        (loss / grad_accum_steps).backward()
        x, y, epoch = next(train_loader)
    progress = min((time.time() - started) / TIME_BUDGET, 1.0)
    rate = min(1.0, (1.0 - progress) / WARMDOWN_RATIO)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * rate
    optimizer.step()
    model.zero_grad(set_to_none=True)
    step += 1
    if progress >= 1.0:
        break

model.eval()
with autocast_ctx:
    val_bpb = evaluate_bpb(model, tokenizer, DEVICE_BATCH_SIZE)
print(f"val_bpb: {val_bpb:.6f}")
