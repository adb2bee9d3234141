"""Attention kernels give what the definition gives."""

import itertools
import os

import pytest

torch = pytest.importorskip("torch")

from autoresearch.errors import AutoresearchError  # noqa: E402
from autoresearch.tasks.gpt import attention as machine  # noqa: E402
from autoresearch.trial.child import attention  # noqa: E402


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


SMALL = {"rows": 1, "context": 64, "num_heads": 1, "head_size": 16, "window": 16}
REAL = """
import os
from autoresearch.trial.child import attention
attention._masked = lambda *_: os.kill(os.getpid(), 11)
attention.main()
"""
# Says what the module of the kernels says, of the kernels it is given, each of which may end it.
SAYS = """
import json, os, sys, time
report = json.loads(sys.argv[2]) or {{"choice": "sdpa+folded", "refused": {{}}}}
for kernel in {kernels}:
    if kernel not in report["refused"]:
        print(json.dumps({{**report, "trying": kernel}}), flush=True)
        {deed}
print(json.dumps({{**report, "trying": ""}}), flush=True)
"""


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("os.kill(os.getpid(), 11)", "it ended the process with signal 11"),
        ("os.kill(os.getpid(), 9)", "it ended the process with signal 9"),
        ("sys.exit('the driver is gone')", "the driver is gone"),
        ("time.sleep(600)", "it hung for"),
    ],
)
def test_a_kernel_that_ends_or_hangs_the_process_takes_only_itself_along(
    broken, words, monkeypatch
):
    code = SAYS.format(kernels=["masked"], deed=broken)
    monkeypatch.setattr(machine, "_MODULE", ("-c", code))
    if "sleep" in broken:  # silent once it tries that kernel
        heard, read, select = [], os.read, machine.select.select

        def hear(*args):
            heard.append(read(*args))
            return heard[-1]

        def wait(*args):
            if b'"trying": "masked"' not in b"".join(heard):
                return select(*args)
            heard.clear()
            return [], [], []

        monkeypatch.setattr(machine.os, "read", hear)
        monkeypatch.setattr(machine.select, "select", wait)
    found = machine._measure(SMALL)
    assert list(found["refused"]) == ["masked"]
    assert words in found["refused"]["masked"]
    assert (found["choice"], found["trying"]) == ("sdpa+folded", "")


def test_a_kernel_that_ended_the_process_is_not_tried_again(monkeypatch):
    monkeypatch.setattr(machine, "_MODULE", ("-c", REAL))
    found = machine._measure(SMALL)
    assert "signal 11" in found["refused"]["masked"]
    assert set(found["full"]) == {"sdpa"}
    assert set(found["windowed"]) == {"folded"}
    assert (found["choice"], found["trying"]) == ("sdpa+folded", "")


def test_where_every_kernel_ends_the_process_the_plain_ones_are_taken(monkeypatch):
    code = SAYS.format(kernels=["sdpa", "folded", "masked"], deed="os.kill(os.getpid(), 11)")
    monkeypatch.setattr(machine, "_MODULE", ("-c", code))
    found = machine._measure(SMALL)
    assert set(found["refused"]) == {"sdpa", "folded", "masked"}
    known = attention.Report(refused={**found["refused"], "flash": "no", "cudnn": "no"})
    try:
        assert attention.measure(attention.Shape(**SMALL), known=known).choice == machine.DEFAULT
    finally:
        attention.use(attention.Choice())


def test_where_no_kernel_can_be_tried_measuring_fails_with_the_reason(monkeypatch):
    monkeypatch.setattr(machine, "_MODULE", ("-c", "raise SystemExit('no CUDA here')"))
    with pytest.raises(AutoresearchError, match="cannot be measured: no CUDA here"):
        machine._measure(SMALL)


def test_flex_must_be_faster_by_a_tenth(monkeypatch):
    """Judging compiles it in every process: what it gains must pay for that."""
    for ms, choice in ((0.95, "sdpa"), (0.8, "flex")):
        times = {"sdpa": 1.0, "flex": ms}
        q = torch.randn(1, 16, 1, 16)
        report = attention.Report(full=dict(times))
        monkeypatch.setattr(attention, "_unfit", lambda *_: "no")
        names = ("sdpa", "flex")
        found = attention._compare(names, q, q, q, 0, attention.Choice(), report, 1, lambda _: None)
        assert found.full == choice


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


@pytest.mark.parametrize("window", [0, 7])
def test_varlen_gets_rows_laid_end_to_end(window, monkeypatch):
    """The glue around the CUDA kernel, with the kernel's documented meaning in its place."""
    from torch.nn.attention import varlen

    asked = []

    def kernel(q, k, v, starts_q, starts_k, longest_q, longest_k, *, window_size):
        asked.append((starts_q.tolist(), starts_k.tolist(), longest_q, longest_k, window_size))
        ends = starts_q.tolist()
        rows = [
            reference(*(t[a:b].unsqueeze(0) for t in (q, k, v)), max(window_size[0], 0))[0]
            for a, b in itertools.pairwise(ends)
        ]
        return torch.cat(rows)

    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 20, 3, 2, 16).unbind(2)  # slices of one tensor, as from fused QKV
    out = attention._varlen(q, k, v, window)
    starts = [0, 20, 40, 60]
    assert asked == [(starts, starts, 20, 20, (window or -1, 0))]
    torch.testing.assert_close(out, reference(q, k, v, window), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda right, q, k, v, _: right + q + k + v, "differs by"),
        (lambda right, q, k, v, _: right + (v - v.detach()), "gradient of v differs by"),
    ],
)
def test_a_kernel_that_fails_or_is_wrong_is_refused(wrong, words, monkeypatch):
    masked = attention._masked
    monkeypatch.setattr(attention, "_unfit", lambda name, *_: "" if name != "flex" else "no")
    monkeypatch.setattr(attention, "_masked", lambda *a: wrong(masked(*a), *a))
    try:
        report = attention.measure(
            attention.Shape(rows=1, context=32, num_heads=1, head_size=16, window=8), repeats=1
        )
    finally:
        attention.use(attention.Choice())
    assert words in report.refused["masked"]
    assert "fa3" in report.refused
    assert attention.parse(report.choice).windowed != "masked"


def test_switches_of_torch_are_those_of_the_choice_and_put_back():
    from torch.nn.attention import SDPBackend, _cur_sdpa_kernel_backends

    before = _cur_sdpa_kernel_backends(with_priority=True)
    try:
        attention.use(attention.parse("cudnn+folded"))
        cudnn = _cur_sdpa_kernel_backends(with_priority=True)
        attention.use(attention.parse("flash+folded"))
        flash = _cur_sdpa_kernel_backends()
    finally:
        attention.use(attention.Choice())
    assert cudnn[0] == SDPBackend.CUDNN_ATTENTION
    assert SDPBackend.FLASH_ATTENTION not in cudnn
    assert SDPBackend.FLASH_ATTENTION in flash
    assert SDPBackend.CUDNN_ATTENTION not in flash
    for allowed in (cudnn, flash):  # windows by folding have a mask
        assert SDPBackend.EFFICIENT_ATTENTION in allowed
    assert _cur_sdpa_kernel_backends(with_priority=True) == before


def test_a_package_is_active_for_its_choice_only(monkeypatch):
    from torch.nn import attention as registry

    calls = []
    monkeypatch.setattr(registry, "activate_flash_attention_impl", calls.append)
    monkeypatch.setattr(registry, "restore_flash_attention_impl", lambda: calls.append("restored"))
    attention.use(attention.parse("fa3+folded"))
    attention.use(attention.parse("sdpa+fa4"))
    attention.use(attention.Choice())
    attention.use(attention.Choice())
    assert calls == ["FA3", "restored", "FA4", "restored"]


def test_the_two_packages_exclude_each_other():
    with pytest.raises(ValueError, match="cannot mix fa3 and fa4"):
        attention.parse("fa3+fa4")
