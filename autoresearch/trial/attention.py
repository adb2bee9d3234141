"""Causal attention with an optional window, by the fastest exact kernel of this machine.

A library for train.py. `attend(q, k, v, window)` takes and returns (B, T, H, D); position t attends to
positions t - window .. t of its own row, to 0 .. t when `window` is 0.
"""

import torch
from torch import Tensor
from torch.nn import functional


def attend(q: Tensor, k: Tensor, v: Tensor, window: int = 0) -> Tensor:
    """Return attention of q over k and v, all (B, T, H, D)."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    if 0 < window < q.size(2) - 1:
        return folded(q, k, v, window).transpose(1, 2)
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


def folded(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Return windowed attention exactly: each block of `window` queries sees two blocks of keys.

    Args:
        q: Queries (B, H, T, D).
        k: Keys, the same shape.
        v: Values, the same shape.
        window: Positions looked back at, at least 1.

    Returns:
        (B, H, T, D).
    """
    batch, heads, length, size = q.shape
    n = -(-length // window)
    pad = (0, 0, 0, n * window - length)
    q, k, v = (functional.pad(t, pad).reshape(batch, heads, n, window, size) for t in (q, k, v))
    # Each block of keys with the one before it; before the first are zeros, which are masked.
    k, v = (torch.cat((functional.pad(t, (0, 0, 0, 0, 1, 0))[:, :, :-1], t), dim=3) for t in (k, v))
    i = torch.arange(window, device=q.device).unsqueeze(1)
    j = torch.arange(2 * window, device=q.device).unsqueeze(0)
    seen = (j >= i) & (j <= i + window)  # (W, 2W), position i is key W + i
    first = seen & (j >= window)
    mask = torch.cat((first.unsqueeze(0), seen.expand(n - 1, -1, -1)))  # (n, W, 2W)
    q, k, v = (t.reshape(batch * heads, n, t.size(3), size) for t in (q, k, v))
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.reshape(batch, heads, n * window, size)[:, :, :length]
