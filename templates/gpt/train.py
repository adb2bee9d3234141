"""A small modern GPT, trained for a fixed time: the one file an agent edits.

`build_model` is the architecture alone; the lab builds it again in fresh processes to judge the
weights. `main` trains it on batches the lab hands out until the budget is spent, then submits.
A change counts only if `forward` stays a pure function of `idx` in which position t depends on
tokens 0..t of the same row and on nothing else, for any T up to `max_seq_len`.
Shapes: B rows, T tokens, C = WIDTH, H = NUM_HEADS, D = HEAD_SIZE, V = vocabulary size.
"""

import gc
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoresearch.trial import Trial, attend, is_out_of_memory

# Model
DEPTH = 8  # blocks; more learns more per token and makes fewer steps; range 1 to 32
WIDTH = 512  # channels of the residual stream; range 32 to 2048; multiple of 32
NUM_HEADS = 4  # attention heads; range 1 to 32
HEAD_SIZE = 128  # channels of a head; range 16 to 256; multiple of 16
MLP_RATIO = 4  # hidden channels of the MLP for each channel of WIDTH; range 1 to 8
SHORT_WINDOW = 256  # tokens a windowed block looks back; 0 is all; range 0 to 2048; multiple of 32
LONG_EVERY = 5  # every so many blocks, and the last, look back without limit; range 1 to 16
VALUE_EMBED_EVERY = 2  # a value embedding in every so many blocks; 0 is none; range 0 to 8
ROPE_BASE = 200_000.0  # longest wavelength of the rotary positions; range 1e3 to 1e7
LOGIT_CAP = 15.0  # logits are squashed into +-LOGIT_CAP; 0 is no limit; range 0 to 50
INIT_SCALE = 0.68  # factor on the initial size of all matrices; range 0.2 to 2
SHORTCUT = 0.05  # initial share of the embedded tokens in what a block reads; range 0 to 1
TIED_HEAD = False  # True: the output matrix is the token embedding, fewer parameters

# Batch; tokens in a step = ROWS * CONTEXT * ACCUMULATE
CONTEXT = 2048  # tokens in a training row; at most max_seq_len
ROWS = 64  # rows in a forward pass; halve it when memory runs out; range 1 to 512
ACCUMULATE = 2  # forward passes in an optimizer step; range 1 to 64

# Optimizer; EMBED_LR and HEAD_LR are those of width 768 and scale with WIDTH ** -0.5
MATRIX_LR = 0.04  # Muon, all matrices inside blocks; range 0.002 to 0.2
EMBED_LR = 0.9  # AdamW, token and value embeddings; range 0.02 to 4
HEAD_LR = 0.005  # AdamW, output matrix; range 0.0002 to 0.05
SCALAR_LR = 0.5  # AdamW, shortcut scalars, a hundredth of it residual scalars; range 0.01 to 2
MATRIX_DECAY = 0.2  # cautious weight decay of matrices; range 0 to 1
FINAL_DECAY = 0.0  # share of MATRIX_DECAY left at the end, on a line from the start; range 0 to 1
EMBED_DECAY = 0.001  # weight decay of the token embedding; range 0 to 0.1
VALUE_DECAY = 0.003  # weight decay of the value embeddings; range 0 to 0.1
HEAD_DECAY = 0.01  # weight decay of the output matrix; range 0 to 0.1
MOMENTUM = 0.95  # Muon's average over steps; range 0.8 to 0.99
MOMENTUM_STEPS = 200  # steps in which MOMENTUM rises by 0.1 to its value; range 0 to 2000
BETA1 = 0.8  # AdamW's average of gradients; range 0.5 to 0.95
SHORTCUT_BETA1 = 0.96  # the same for the shortcut scalars; range 0.5 to 0.99
BETA2 = 0.95  # AdamW's average of squared gradients; range 0.9 to 0.999
COOLDOWN = 0.75  # share of the budget over which the learning rate falls; range 0 to 1
FINAL_LR = 0.05  # share of the learning rate that is left at the end; range 0 to 1

# ------------------------------------------------------------------------------------- model


def norm(x: Tensor) -> Tensor:
    """RMSNorm without weights over the last dimension (Zhang & Sennrich 2019)."""
    return F.rms_norm(x, (x.size(-1),), eps=1e-6)


class Linear(nn.Module):
    """A matrix kept in float32 and used in the dtype of its input (autocast by hand); no bias."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_out, num_in))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class Attention(nn.Module):
    """Causal attention: one QKV matrix, RoPE (Su 2021), QK norm (Henry 2020), gated value
    embeddings (value residual: Zhou 2024), windows in most blocks (Beltagy 2020).

    `attend(q, k, v, window)` is exact and uses the kernel that was measured fastest on this machine.
    """

    def __init__(self, window: int, has_value_embed: bool) -> None:
        super().__init__()
        self.window = window  # tokens looked back at, 0 is all
        self.qkv = nn.Parameter(torch.empty(3, NUM_HEADS * HEAD_SIZE, WIDTH))
        self.out = Linear(NUM_HEADS * HEAD_SIZE, WIDTH)
        self.gate = Linear(32, NUM_HEADS) if has_value_embed else None

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, value: Tensor | None) -> Tensor:
        B, T, _ = x.shape
        qkv = F.linear(x, self.qkv.flatten(0, 1).to(x.dtype)).view(B, T, 3, NUM_HEADS, HEAD_SIZE)
        q, k, v = qkv.unbind(2)  # (B, T, H, D) each
        q, k = rotate(norm(q), cos, sin), rotate(norm(k), cos, sin)
        if self.gate is not None and value is not None:
            gate = 2.0 * torch.sigmoid(self.gate(x[..., :32]))  # (B, T, H)
            v = v + gate.unsqueeze(-1) * value.view_as(v)
        return self.out(attend(q, k, v, self.window).flatten(2))


def look_up(table: Tensor, idx: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows of a table kept in float32, in `dtype`: idx (B, T) -> (B, T, channels)."""
    return F.embedding(idx, table.to(dtype))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of channels of x (B, T, H, D) by its angle; cos, sin are (T, 1, D / 2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


class Block(nn.Module):
    """Attention, then an MLP with ReLU^2 (So 2021), each on a normed residual stream.

    What comes in is mixed with the embedded tokens x0 by two learned scalars (modded-nanogpt).
    """

    def __init__(self, window: int, has_value_embed: bool) -> None:
        super().__init__()
        self.residual = nn.Parameter(torch.tensor(1.0))
        self.shortcut = nn.Parameter(torch.tensor(SHORTCUT))
        self.attention = Attention(window, has_value_embed)
        self.up = Linear(WIDTH, MLP_RATIO * WIDTH)
        self.down = Linear(MLP_RATIO * WIDTH, WIDTH)

    def forward(
        self, x: Tensor, x0: Tensor, cos: Tensor, sin: Tensor, value: Tensor | None
    ) -> Tensor:
        x = self.residual.to(x.dtype) * x + self.shortcut.to(x.dtype) * x0
        x = x + self.attention(norm(x), cos, sin, value)
        return x + self.down(F.relu(self.up(norm(x))).square())


class GPT(nn.Module):
    """idx (B, T) -> logits (B, T, V) in float32."""

    def __init__(self, vocab_size: int, max_seq_len: int) -> None:
        super().__init__()
        every = VALUE_EMBED_EVERY or DEPTH + 1  # counted from the last block
        embedded = [VALUE_EMBED_EVERY > 0 and (DEPTH - 1 - i) % every == 0 for i in range(DEPTH)]
        is_long = [(i + 1) % LONG_EVERY == 0 or i == DEPTH - 1 for i in range(DEPTH)]
        self.embed = nn.Parameter(torch.empty(vocab_size, WIDTH))
        width = NUM_HEADS * HEAD_SIZE
        self.value_embeds = nn.ParameterDict(
            {str(i): torch.empty(vocab_size, width) for i in range(DEPTH) if embedded[i]}
        )
        self.blocks = nn.ModuleList(
            Block(0 if is_long[i] else SHORT_WINDOW, embedded[i]) for i in range(DEPTH)
        )
        self.head = Linear(WIDTH, vocab_size)
        if TIED_HEAD:
            self.head.weight = self.embed
        # Angles come from the CPU everywhere, so that all devices have the same.
        half = torch.arange(0, HEAD_SIZE, 2, device="cpu") / HEAD_SIZE
        angles = torch.outer(torch.arange(max_seq_len, device="cpu").float(), ROPE_BASE**-half)
        for name, table in (("cos", angles.cos()), ("sin", angles.sin())):  # (max, 1, D / 2)
            self.register_buffer(name, table.unsqueeze(1).to(self.embed.device), persistent=False)

    @torch.no_grad()
    def initialize(self) -> None:
        """Uniform matrices of variance 1 / fan-in; outputs of blocks start at zero."""
        bound = INIT_SCALE * (3.0 / WIDTH) ** 0.5
        self.embed.normal_(std=0.02 if TIED_HEAD else 1.0)
        if not TIED_HEAD:
            self.head.weight.normal_(std=0.001)
        for table in self.value_embeds.values():
            table.uniform_(-bound, bound)
        for block in self.blocks:
            block.attention.qkv.uniform_(-bound, bound)
            block.up.weight.uniform_(-bound, bound)
            block.attention.out.weight.zero_()
            block.down.weight.zero_()
            if block.attention.gate is not None:
                block.attention.gate.weight.zero_()

    def features(self, idx: Tensor) -> Tensor:
        """Everything but the output matrix: idx (B, T) -> (B, T, C)."""
        dtype = compute_dtype(idx.device)
        T = idx.size(1)
        cos, sin = self.cos[:T].to(dtype), self.sin[:T].to(dtype)
        x0 = norm(look_up(self.embed, idx, dtype))
        x = x0.view_as(x0)  # another object: else the first block is compiled apart
        for i, block in enumerate(self.blocks):
            table = self.value_embeds.get(str(i))
            value = None if table is None else look_up(table, idx, dtype)
            x = block(x, x0, cos, sin, value)
        return norm(x)

    def forward(self, idx: Tensor) -> Tensor:
        return cap(self.head(self.features(idx)))


def cap(logits: Tensor) -> Tensor:
    """Squash logits smoothly into +-LOGIT_CAP, in float32 (Gemma 2, 2024)."""
    x = logits.float()  # capped is LOGIT_CAP * tanh(x / LOGIT_CAP), in fewer instructions
    return 2 * LOGIT_CAP * torch.sigmoid(x * (2 / LOGIT_CAP)) - LOGIT_CAP if LOGIT_CAP else x


def compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the GPU has it in hardware, else float32."""
    is_fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if is_fast else torch.float32


def wants_compile(device: torch.device) -> bool:
    """Compilation pays on CUDA (from capability 7 on) and costs more than it gives elsewhere."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 7


def build_model(vocab_size: int, max_seq_len: int, device: torch.device | str) -> nn.Module:
    """The architecture with initial weights; the lab calls this to judge.

    Raises:
        ValueError: a constant does not fit; the sentence names it.
    """
    if HEAD_SIZE % 2:
        raise ValueError(f"HEAD_SIZE must be even for rotary positions, got {HEAD_SIZE}")
    if WIDTH < 32:
        raise ValueError(f"WIDTH must be at least 32, got {WIDTH}")
    for name in ("DEPTH", "NUM_HEADS", "MLP_RATIO", "LONG_EVERY"):
        if globals()[name] < 1:
            raise ValueError(f"{name} must be at least 1, got {globals()[name]}")
    with torch.device(device):
        model = GPT(vocab_size, max_seq_len)
    if torch.device(device).type != "meta":  # where only shapes are asked for
        model.initialize()
    return model


# --------------------------------------------------------------------------------- optimizer

# Polar Express (Amsel et al. 2025): the best polynomials for five steps towards U V^T.
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def muon_update(
    weights: Tensor, grads: Tensor, average: Tensor, variance: Tensor, rates: Iterable, dtype=None
) -> Tensor:
    """Return weights (N, R, C) after one step of Muon (Jordan 2024) with Nesterov momentum.

    The orthogonal update is scaled row by row by a running variance (NorMuon: Li et al. 2025),
    and weights decay only where that agrees with the update (cautious: Chen et al. 2025).
    `rates` holds learning rate, momentum and decay; a tensor where this is compiled, once for all.
    `dtype` is that of the products, float32 by default.
    """
    lr, momentum, decay = rates
    average.lerp_(grads, 1.0 - momentum)
    g = grads.lerp(average, momentum)
    x = g.to(dtype or g.dtype)
    is_tall = x.size(1) > x.size(2)
    x = x.mT if is_tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) * 1.02 + 1e-6)
    for a, b, c in POLAR_EXPRESS:
        s = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=b, alpha=c), x, beta=a)
    x = (x.mT if is_tall else x).to(weights.dtype)
    rows = x.square().mean(dim=2, keepdim=True)  # (N, R, 1)
    variance.lerp_(rows, 0.05)
    scaled = x * variance.clamp_min(1e-10).rsqrt()
    before, after = [t.norm(dim=(1, 2), keepdim=True) for t in (x, scaled)]
    x = scaled * (before / after.clamp_min(1e-10))
    lr = lr * max(1.0, x.size(1) / x.size(2)) ** 0.5
    agrees = (x * weights) >= 0
    return weights - lr * x - lr * decay * weights * agrees


class Muon:
    """Muon over stacks of all matrices of one shape; torch.optim would take a second to import."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        shapes: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for p in params:
            shapes.setdefault(tuple(p.shape[-2:]), []).append(p)
        self.groups = [{"params": group, "lr": MATRIX_LR} for group in shapes.values()]
        self.dtype = compute_dtype(params[0].device)
        self.is_compiled = wants_compile(params[0].device)
        self.update = torch.compile(muon_update, dynamic=False) if self.is_compiled else muon_update
        self.forget()

    def forget(self) -> None:
        """Drop what was averaged so far."""
        self.num_steps = 0
        self.state: list[tuple[Tensor, Tensor]] = []
        for group in self.groups:
            weights = self.stack(group["params"])
            self.state.append((torch.zeros_like(weights), torch.zeros_like(weights[:, :, :1])))

    @staticmethod
    def stack(tensors: list[Tensor]) -> Tensor:
        """All matrices in tensors of shape (..., R, C) as one (N, R, C)."""
        return torch.cat([t.detach().view(-1, *t.shape[-2:]) for t in tensors])

    @torch.no_grad()
    def step(self, rate: float, decay: float = 1.0) -> None:
        """Update at `rate` times the peak learning rate and `decay` times the weight decay."""
        self.num_steps += 1
        momentum = MOMENTUM - 0.1 * max(0.0, 1.0 - self.num_steps / max(1, MOMENTUM_STEPS))
        for group, (average, variance) in zip(self.groups, self.state, strict=True):
            params = group["params"]
            weights, grads = self.stack(params), self.stack([p.grad for p in params])
            rates = (rate * group["lr"], momentum, decay * MATRIX_DECAY)
            if self.is_compiled:  # another depth is another N: compile for any
                rates = torch.tensor(rates).to(weights.device, non_blocking=True)
                for tensor in (weights, grads, average, variance):
                    torch._dynamo.maybe_mark_dynamic(tensor, 0)
            new = self.update(weights, grads, average, variance, rates, self.dtype)
            parts = new.split([p.numel() // new[0].numel() for p in params])
            torch._foreach_copy_(params, [n.view_as(p) for n, p in zip(parts, params, strict=True)])


class AdamW:
    """AdamW (Loshchilov & Hutter 2019) by torch's fused kernel; a group has an lr."""

    def __init__(self, groups: list[dict]) -> None:
        self.groups = [group for group in groups if group["params"]]
        self.forget()

    def forget(self) -> None:
        """Drop what was averaged so far."""
        self.state = []
        for group in self.groups:
            averages = [torch.zeros_like(p) for p in group["params"]]
            squares = [torch.zeros_like(p) for p in group["params"]]
            steps = [torch.zeros((), device=p.device) for p in group["params"]]
            self.state.append((averages, squares, steps))

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update at `rate` times the peak learning rate."""
        for group, (averages, squares, steps) in zip(self.groups, self.state, strict=True):
            params, grads = group["params"], [p.grad for p in group["params"]]
            rates = {"lr": rate * group["lr"], "beta1": group.get("beta1", BETA1), "eps": 1e-10}
            rates |= {"beta2": BETA2, "weight_decay": group.get("decay", 0.0)}
            rates |= {"amsgrad": False, "maximize": False}
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(params, grads, averages, squares, [], steps, **rates)


def build_optimizers(model: GPT) -> tuple[AdamW, Muon]:
    """Muon for the matrices inside blocks, AdamW for everything else."""
    scale = (WIDTH / 768) ** -0.5
    named = list(model.blocks.named_parameters())
    gates = [p for name, p in named if name.endswith("gate.weight")]
    matrices = [p for name, p in named if p.ndim > 1 and not name.endswith("gate.weight")]
    embeds = [] if TIED_HEAD else [model.embed]
    groups = [
        {"params": embeds, "lr": EMBED_LR * scale, "decay": EMBED_DECAY},
        {"params": [*model.value_embeds.values()], "lr": EMBED_LR * scale, "decay": VALUE_DECAY},
        {"params": [model.head.weight], "lr": HEAD_LR * scale, "decay": HEAD_DECAY},
        {"params": [b.shortcut for b in model.blocks], "lr": SCALAR_LR, "beta1": SHORTCUT_BETA1},
        {"params": [*gates, *(b.residual for b in model.blocks)], "lr": SCALAR_LR * 0.01},
    ]
    return AdamW(groups), Muon(matrices)


def schedule(progress: float) -> tuple[float, float]:
    """Shares of the peak learning rate, flat, then a line to FINAL_LR (Hagele 2024), and decay."""
    left = min(1.0, (1.0 - progress) / max(COOLDOWN, 1e-9))
    return FINAL_LR + (1.0 - FINAL_LR) * left, 1.0 - (1.0 - FINAL_DECAY) * progress


# ---------------------------------------------------------------------------------- training


def loss_of(features: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats; one function, so that the logits can be fused away."""
    logits = cap(F.linear(features, head.to(features.dtype)))
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Trainer:
    """The model, its optimizers and one step of both."""

    def __init__(self, model: GPT) -> None:
        self.model = model
        self.optimizers = build_optimizers(model)
        self.loss_of = loss_of
        if wants_compile(model.embed.device):
            torch._dynamo.config.recompile_limit = 64  # kinds of block; more run uncompiled
            for block in model.blocks:  # one block compiled serves all of its kind
                block.compile(dynamic=False)
            self.loss_of = torch.compile(loss_of, dynamic=False)

    def accumulate(self, x: Tensor, y: Tensor) -> Tensor:
        """Add the gradient of one batch; return its loss."""
        loss = self.loss_of(self.model.features(x), self.model.head.weight, y)
        (loss / ACCUMULATE).backward()
        return loss.detach()

    def step(self, rate: float, decay: float = 1.0) -> None:
        """Move the weights, at shares of the peak learning rate and of Muon's weight decay."""
        adamw, muon = self.optimizers
        adamw.step(rate)
        muon.step(rate, decay)
        self.model.zero_grad(set_to_none=True)

    def warm_up(self, x: Tensor, y: Tensor) -> None:
        """Compile and allocate on random tokens at learning rate 0, then forget the statistics.

        Raises:
            torch.OutOfMemoryError: a step does not fit; says which constant to set to what.
        """
        try:
            for _ in range(2):
                for _ in range(min(2, ACCUMULATE)):  # the second adds to gradients that are there
                    self.accumulate(x, y)
                self.step(0.0)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise torch.OutOfMemoryError(
                f"ROWS = {ROWS} rows of CONTEXT = {CONTEXT} do not fit in memory: set ROWS ="
                f" {ROWS // 2} and ACCUMULATE = {2 * ACCUMULATE}, the same tokens in a step"
                if ROWS > 1
                else "not even one row fits in memory: halve CONTEXT, then WIDTH"
            ) from error
        for optimizer in self.optimizers:
            optimizer.forget()


def main() -> None:
    trial = Trial.join()
    if trial.max_seq_len < CONTEXT:
        raise ValueError(f"CONTEXT must be at most {trial.max_seq_len}, got {CONTEXT}")
    torch.manual_seed(trial.seed)
    torch.set_float32_matmul_precision("high")
    trainer = Trainer(build_model(trial.vocab_size, trial.max_seq_len, trial.device))
    trainer.warm_up(*trial.synthetic_batch(ROWS, CONTEXT))
    gc.collect()
    gc.freeze()
    gc.disable()  # collections cost steps; nothing here makes cycles
    trial.start()
    for i, (x, y) in enumerate(trial.batches(ROWS, CONTEXT)):
        loss = trainer.accumulate(x, y)
        if (i + 1) % ACCUMULATE == 0:
            rate, decay = schedule(trial.progress)
            trainer.step(rate, decay)
            trial.log(loss=loss, lr=rate)
    trial.submit(trainer.model)


if __name__ == "__main__":
    main()
