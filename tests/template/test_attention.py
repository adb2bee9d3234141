"""Attention kernels give what the definition gives."""

import pytest

torch = pytest.importorskip("torch")

from autoresearch.trial import attention  # noqa: E402


def reference(q, k, v, window):
    """The definition, written out: (B, T, H, D)."""
    T = q.size(1)
    scores = torch.einsum("bthd,bshd->bhts", q, k) / q.size(-1) ** 0.5
    t, s = torch.arange(T).unsqueeze(1), torch.arange(T).unsqueeze(0)
    hidden = s > t
    if window:
        hidden = hidden | (s < t - window)
    return torch.einsum("bhts,bshd->bthd", scores.masked_fill(hidden, -torch.inf).softmax(-1), v)


@pytest.mark.parametrize("window", [0, 1, 7, 16, 31, 32, 33, 63, 64, 200])
@pytest.mark.parametrize("T", [1, 33, 64])
def test_attend_equals_the_definition(T, window):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, T, 3, 16, requires_grad=True) for _ in range(3))
    out = attention.attend(q, k, v, window)
    expected = reference(q, k, v, window)
    torch.testing.assert_close(out, expected, atol=2e-5, rtol=1e-4)
    ours = torch.autograd.grad(out.square().sum(), (q, k, v))
    theirs = torch.autograd.grad(expected.square().sum(), (q, k, v))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)
