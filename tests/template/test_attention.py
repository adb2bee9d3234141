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


@pytest.mark.parametrize("kernel", ["folded", "masked"])
def test_windowed_kernels_agree(kernel):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 50, 2, 16) for _ in range(3))
    try:
        attention.use(attention.Choice(windowed=kernel))
        out = attention.attend(q, k, v, 12)
    finally:
        attention.use(attention.Choice())
    torch.testing.assert_close(out, reference(q, k, v, 12), atol=2e-5, rtol=1e-4)


def test_kernels_that_need_a_gpu_fall_back_on_a_cpu():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 20, 2, 16) for _ in range(3))
    try:
        attention.use(attention.parse("varlen+varlen"))
        for window in (0, 5):
            out = attention.attend(q, k, v, window)
            torch.testing.assert_close(out, reference(q, k, v, window), atol=2e-5, rtol=1e-4)
    finally:
        attention.use(attention.Choice())


def test_the_choice_is_read_and_written_alike():
    assert str(attention.parse("cudnn+varlen")) == "cudnn+varlen"
    assert attention.parse("") == attention.Choice("sdpa", "folded")
    assert attention.parse("flash").windowed == "folded"
    with pytest.raises(ValueError, match="got `quick`"):
        attention.parse("quick")


def test_measuring_on_a_cpu_names_what_works_and_why_the_rest_does_not():
    try:
        report = attention.measure(
            attention.Shape(rows=1, context=64, num_heads=1, head_size=16, window=16), repeats=1
        )
    finally:
        attention.use(attention.Choice())
    assert set(report.full) == {"sdpa"}
    assert set(report.windowed) == {"folded", "masked"}
    assert report.refused["varlen"] == "needs CUDA"
    assert attention.parse(report.choice).full == "sdpa"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("window", [0, 24])
def test_flex_agrees_on_a_cpu(window):
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 128, 2, 32) for _ in range(3))
    try:
        attention.use(attention.parse("flex+flex"))
        with torch.inference_mode():
            out = attention.attend(q, k, v, window)
    finally:
        attention.use(attention.Choice())
    torch.testing.assert_close(out, reference(q, k, v, window), atol=1e-4, rtol=1e-3)
