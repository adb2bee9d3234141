"""Causal attention with an optional window, by the fastest exact kernel of this machine.

A library for train.py: `attend(q, k, v, window)` takes and returns (B, T, H, D); position t attends to
positions t - window .. t of the same row, to 0 .. t when `window` is 0. All kernels give the same numbers
within the rounding of the dtype. Which one is used is decided outside: the lab measures the candidates once per
setup (`python -m autoresearch.trial.child.attention`), records the choice and hands it to every process, judging
included, as AUTORESEARCH_ATTENTION: `<full>+<windowed>`, for example `cudnn+varlen`. Unset, it is `sdpa+folded`,
which works everywhere.

Kernels:
    sdpa      torch's scaled_dot_product_attention, which chooses a backend
    flash     the same by FlashAttention 2; cudnn: the same by cuDNN; by torch's choice where they cannot
    varlen    FlashAttention with a window (torch 2.11 and later), half precision on CUDA
    fa3, fa4  varlen with FlashAttention 3 or 4, where its package is installed
    flex      FlexAttention, always compiled, in each judging process too: chosen if 10 % faster than all others
    folded    windows only: blocks of queries over two blocks of keys, by sdpa; exact
    masked    windows only: sdpa with a dense mask

Trade-offs:
    `flash`, `cudnn`, `fa3` and `fa4` set torch's process-wide switches when this module is imported; so `fa3` and
    `fa4` exclude each other, and `varlen` together with one of them is that one.
"""

import contextlib
import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

VARIABLE = "AUTORESEARCH_ATTENTION"
FULL = ("sdpa", "flash", "cudnn", "varlen", "fa3", "fa4", "flex")
WINDOWED = ("folded", "masked", "varlen", "fa3", "fa4", "flex")
_PACKAGES = ("fa3", "fa4")
_HALF = (torch.bfloat16, torch.float16)


class Choice(NamedTuple):
    """The kernel without a window, and the one with."""

    full: str = "sdpa"
    windowed: str = "folded"

    def __str__(self) -> str:
        """`cudnn+varlen`, the form of AUTORESEARCH_ATTENTION."""
        return f"{self.full}+{self.windowed}"


def attend(q: Tensor, k: Tensor, v: Tensor, window: int = 0) -> Tensor:
    """Return attention of q over k and v, all (B, T, H, D)."""
    if 0 < window < q.size(1) - 1:
        name = _used.windowed
    else:
        name, window = _used.full, 0
    is_packed = name == "varlen" or name in _PACKAGES
    if is_packed and not (q.is_cuda and q.dtype in _HALF):
        is_packed, name = False, "folded"  # these kernels know nothing else
    if name == "flex":
        return _used.flex(q, k, v, window)
    if is_packed:
        return _varlen(q, k, v, window)
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    if window == 0:
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    elif name == "masked":
        out = _masked(q, k, v, window)
    else:
        out = _folded(q, k, v, window)
    return out.transpose(1, 2)


def parse(text: str) -> Choice:
    """Read `<full>+<windowed>`; empty is the default.

    Raises:
        ValueError: a kernel is unknown.
    """
    if not text:
        return Choice()
    full, _, windowed = text.partition("+")
    choice = Choice(full, windowed or "folded")
    if choice.full not in FULL or choice.windowed not in WINDOWED:
        raise ValueError(
            f"{VARIABLE} must be one of {', '.join(FULL)}, a plus sign and one of"
            f" {', '.join(WINDOWED)}, got `{text}`"
        )
    if set(_PACKAGES) <= set(choice):
        raise ValueError(f"{VARIABLE} cannot mix fa3 and fa4, got `{text}`")
    return choice


def use(choice: Choice) -> None:
    """Make `attend` use these kernels from now on.

    Raises:
        Exception: the package of `fa3` or `fa4` is missing or does not work here.
    """
    from torch.nn import attention

    _used.full, _used.windowed = choice
    _switches.close()
    # Windows by folding have a mask, which these two may not know: others stay allowed behind them.
    others = [attention.SDPBackend.EFFICIENT_ATTENTION, attention.SDPBackend.MATH]
    if choice.full == "flash":
        first = attention.SDPBackend.FLASH_ATTENTION
        _switches.enter_context(attention.sdpa_kernel([first, *others]))
    elif choice.full == "cudnn":
        # By itself torch asks cuDNN last on most GPUs.
        first = attention.SDPBackend.CUDNN_ATTENTION
        _switches.enter_context(attention.sdpa_kernel([first, *others], set_priority=True))
    for name in _PACKAGES:
        if name in choice:
            attention.activate_flash_attention_impl(name.upper())
            _switches.callback(attention.restore_flash_attention_impl)
    if "flex" in choice:
        # A separate graph: its block masks cannot be made while another is traced.
        _used.flex = torch.compiler.disable(_flex, recursive=False)


# ----------------------------------------------------------------------------------- kernels


def _folded(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Each block of `window` queries sees its own block of keys and the one before; (B, H, T, D)."""
    batch, heads, length, size = q.shape
    n = -(-length // window)
    pad = (0, 0, 0, n * window - length)
    q, k, v = (functional.pad(t, pad).reshape(batch, heads, n, window, size) for t in (q, k, v))
    # Before the first block are zeros, which are masked.
    k, v = (torch.cat((functional.pad(t, (0, 0, 0, 0, 1, 0))[:, :, :-1], t), dim=3) for t in (k, v))
    i = torch.arange(window, device=q.device).unsqueeze(1)
    j = torch.arange(2 * window, device=q.device).unsqueeze(0)
    seen = (j >= i) & (j <= i + window)  # (W, 2W), position i is key W + i
    first = seen & (j >= window)
    mask = torch.cat((first.unsqueeze(0), seen.expand(n - 1, -1, -1)))  # (n, W, 2W)
    q, k, v = (t.reshape(batch * heads, n, t.size(3), size) for t in (q, k, v))
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.reshape(batch, heads, n * window, size)[:, :, :length]


def _masked(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    t = torch.arange(q.size(2), device=q.device)
    back = t.unsqueeze(1) - t.unsqueeze(0)
    mask = (back >= 0) & (back <= window)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _varlen(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """FlashAttention over rows laid end to end; (B, T, H, D)."""
    from torch.nn.attention.varlen import varlen_attn

    rows, length = q.shape[:2]
    starts = torch.arange(0, (rows + 1) * length, length, dtype=torch.int32, device=q.device)
    flat = (t.flatten(0, 1) for t in (q, k, v))
    out = varlen_attn(*flat, starts, starts, length, length, window_size=(window or -1, 0))
    return out.view_as(q)


def _flex(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    mask = _block_mask(q.size(1), window, str(q.device))
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return _compiled_flex()(q, k, v, block_mask=mask).transpose(1, 2)


@functools.cache
def _block_mask(length: int, window: int, device: str) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def is_seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:  # noqa: ARG001
        causal = i >= j
        return causal & (i - j <= window) if window else causal

    return create_block_mask(is_seen, None, None, length, length, device=device)


@functools.cache
def _compiled_flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)  # type: ignore[no-any-return]


@dataclass
class _Used:
    """What `attend` uses in this process."""

    full: str = "sdpa"
    windowed: str = "folded"
    flex: Callable[[Tensor, Tensor, Tensor, int], Tensor] = _flex


_used = _Used()
_switches = contextlib.ExitStack()
if os.environ.get(VARIABLE):
    use(parse(os.environ[VARIABLE]))


# ----------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Shape:
    """What is measured."""

    device: str = "cpu"
    rows: int = 16
    context: int = 2048
    num_heads: int = 4
    head_size: int = 128
    window: int = 256


@dataclass
class Report:
    """Milliseconds, forward and backward, of each kernel that works and is exact here."""

    choice: str = str(Choice())
    dtype: str = ""
    full: dict[str, float] = field(default_factory=dict)
    windowed: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Kernel -> why it is not a candidate, in one line."""
    trying: str = ""
    """The kernel that is tried now; empty when all were."""


def measure(
    shape: Shape,
    *,
    repeats: int = 10,
    known: Report | None = None,
    tell: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Time every kernel on random tensors and name the fastest exact ones; leaves them in use.

    Args:
        shape: What is measured.
        repeats: Of each kernel.
        known: What an earlier process found before a kernel ended it; not tried again.
        tell: Given what is known before a kernel is tried, and at the end.
    """
    is_cuda = shape.device.startswith("cuda")
    is_half = is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    dtype = torch.bfloat16 if is_half else torch.float32
    report = replace(known, refused=dict(known.refused)) if known else Report()
    report.dtype = str(dtype).removeprefix("torch.")
    size = (shape.rows, shape.context, shape.num_heads, shape.head_size)
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(size, device=shape.device, dtype=dtype, requires_grad=True) for _ in range(3)
    )
    full, windowed = (
        tuple(name for name in names if known is None or name not in known.refused)
        for names in (FULL, WINDOWED)
    )
    choice = _compare(full, q, k, v, 0, Choice(), report, repeats, tell)
    window = min(shape.window, shape.context // 2)
    best = _compare(windowed, q, k, v, window, choice, report, repeats, tell)
    use(best)
    report.choice, report.trying = str(best), ""
    tell(report)
    return report


def _compare(
    names: tuple[str, ...],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int,
    base: Choice,
    report: Report,
    repeats: int,
    tell: Callable[[Report], None],
) -> Choice:
    """Time the kernels `names` into the report; return `base` with the fastest exact one in its place.

    The first that works is what the others are compared with, forward and backward.
    """
    times = report.windowed if window else report.full
    expected: list[Tensor] = []
    for name in names:
        if expected and name in times:
            continue
        choice = Choice(base.full, name) if window else Choice(name)
        reason = _unfit(name, choice, q)
        if not reason:
            report.trying = name
            tell(report)
            try:
                use(choice)
                got = _with_gradients(q, k, v, window)
                expected = expected or got
                reason = _difference(got, expected, names[0], is_half=q.dtype in _HALF)
                if not reason:
                    times[name] = _milliseconds(q, k, v, window, repeats)
                    continue
            except Exception as exc:  # noqa: BLE001 - whatever a kernel cannot do, it says here
                reason = str(exc).strip().partition("\n")[0][:200] or type(exc).__name__
                if q.is_cuda:  # after an illegal access nothing works: that ends this process
                    torch.cuda.synchronize()
        report.refused.setdefault(name, reason)
    prices = {name: ms * (1.1 if name == "flex" else 1.0) for name, ms in times.items()}
    plain = Choice()
    fastest = min(prices, key=prices.__getitem__, default=plain.windowed if window else plain.full)
    return Choice(base.full, fastest) if window else Choice(fastest, base.windowed)


def _with_gradients(q: Tensor, k: Tensor, v: Tensor, window: int) -> list[Tensor]:
    """Return the output and the gradients of q, k and v for its square, each float32 (B, T, H, D)."""
    out = attend(q, k, v, window)
    return [t.detach().float() for t in (out, *torch.autograd.grad(out, (q, k, v), out))]


def _difference(got: list[Tensor], expected: list[Tensor], name: str, *, is_half: bool) -> str:
    """Say how numbers differ from those of the kernel `name`; empty within the rounding of the dtype."""
    worst = (got[0] - expected[0]).abs().max().item()
    if not worst <= (0.05 if is_half else 1e-3):
        return f"differs by {worst:.3g} from {name}"
    for which, a, b in zip("qkv", got[1:], expected[1:], strict=True):
        share = ((a - b).abs().mean() / b.abs().mean().clamp_min(1e-12)).item()
        if not share <= (0.02 if is_half else 1e-3):
            return f"gradient of {which} differs by {share:.1%} from {name}"
    return ""


def _unfit(name: str, choice: Choice, q: Tensor) -> str:
    """Say why a kernel need not be tried; empty if it must."""
    is_packed = name == "varlen" or name in _PACKAGES
    if (is_packed or name in ("flash", "cudnn")) and not q.is_cuda:
        return "needs CUDA"
    if is_packed and q.dtype not in _HALF:
        return "needs bfloat16"
    if name == "flex" and not q.is_cuda:
        return "its backward pass needs CUDA"
    if name in _PACKAGES:
        from torch.nn import attention

        listed: list[str] = getattr(attention, "list_flash_attention_impls", list)()
        if name.upper() not in listed:
            return "this torch has no such implementation"
    if is_packed and choice.full in _PACKAGES and name != choice.full:
        return f"cannot be used together with {choice.full}"
    return ""


def _milliseconds(q: Tensor, k: Tensor, v: Tensor, window: int, repeats: int) -> float:
    def once() -> float:
        wait = torch.cuda.synchronize if q.is_cuda else (lambda: None)
        wait()
        began = time.perf_counter()
        out = attend(q, k, v, window)
        torch.autograd.grad(out, (q, k, v), out)
        wait()
        return 1000.0 * (time.perf_counter() - began)

    for _ in range(3):
        once()
    return round(statistics.median(once() for _ in range(repeats)), 3)


def main() -> None:
    """Measure for the lab: a line of JSON with the whole report before each kernel and at the end."""

    def tell(report: Report) -> None:
        sys.stdout.write(json.dumps(asdict(report)) + "\n")
        sys.stdout.flush()

    shape, known = (json.loads(text) for text in sys.argv[1:])
    measure(Shape(**shape), known=Report(**known), tell=tell)


if __name__ == "__main__":
    main()
