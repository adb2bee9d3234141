"""What only a GPU can show: run with `nox -s gpu`; skipped with a word where there is none."""

import os
import sys
from pathlib import Path

import pytest

from autoresearch import hardware, presets
from autoresearch.types import Outcome

sys.path.insert(0, str(Path(__file__).parent))

HARDWARE = hardware.describe()
SECONDS = float(os.environ.get("GPU_TEST_SECONDS", "60"))
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        HARDWARE.kind not in ("cuda", "rocm"),
        reason=f"no usable GPU: {HARDWARE.note or HARDWARE.name}",
    ),
]
SMALL = {
    "DEPTH": 4,
    "WIDTH": 256,
    "NUM_HEADS": 2,
    "HEAD_SIZE": 128,
    "SHORT_WINDOW": 128,
    "LONG_EVERY": 2,
    "CONTEXT": 512,
    "ROWS": 16,
    "ACCUMULATE": 2,
}


@pytest.fixture(scope="module")
def kernels():
    """The measured choice, in force in this process."""
    from autoresearch.trial import attention

    report = attention.measure(attention.Shape("cuda", rows=8, context=1024, window=128))
    yield report
    attention.use(attention.Choice())


def test_the_kernels_of_this_gpu_agree_and_one_is_chosen(kernels):
    assert "sdpa" in kernels.full
    assert "folded" in kernels.windowed
    full, _, windowed = kernels.choice.partition("+")
    assert kernels.full[full] == min(kernels.full.values())
    assert kernels.windowed[windowed] == min(kernels.windowed.values())


def test_numbers_are_equal_on_cpu_and_gpu(kernels):
    import torch
    from fake_trial import FakeTrial, load

    module = load(FakeTrial(), **SMALL)
    torch.manual_seed(0)
    on_cpu = module.build_model(512, 512, "cpu").eval()
    with torch.no_grad():
        for p in on_cpu.parameters():
            p.add_(0.02 * torch.randn_like(p))
    on_gpu = module.build_model(512, 512, "cuda").eval()
    on_gpu.load_state_dict(on_cpu.state_dict())
    idx = torch.randint(512, (2, 500))
    with torch.inference_mode():
        a = torch.log_softmax(on_cpu(idx), -1)
        b = torch.log_softmax(on_gpu(idx.cuda()), -1).cpu()
    assert (a - b).abs().max() < 0.25  # bf16 against float32, the judge's least tolerance
    assert (a - b).abs().mean() < 0.02


def test_compiled_and_eager_training_steps_agree(kernels):
    import torch
    from fake_trial import FakeTrial, load

    losses = []
    for is_compiled in (False, True):
        module = load(FakeTrial(), **SMALL)
        module.wants_compile = lambda _device, answer=is_compiled: answer
        torch.manual_seed(0)
        trainer = module.Trainer(module.build_model(512, 512, "cuda"))
        generator = torch.Generator().manual_seed(1)
        for _ in range(10):
            rows = torch.randint(512, (16, 513), generator=generator).cuda()
            loss = trainer.accumulate(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
            trainer.step(1.0)
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], abs=0.02)


def test_a_real_trial_is_trained_claimed_and_audited_in_a_sandbox(run_trial, prepared):
    from autoresearch.trial.sandbox import choose

    files = presets.render("gpt", "8gb")
    constants = {**SMALL, "CONTEXT": 64, "SHORT_WINDOW": 16, "ROWS": 256}
    files["train.py"] = presets.set_constants(files["train.py"], constants)
    result = run_trial(
        files,
        sandbox=choose(),
        trial__budget_seconds=SECONDS,
        trial__device="cuda",
        trial__startup_seconds=300.0,
    )
    assert result.outcome is Outcome.OK, result.detail + result.log_tail
    assert result.extra["device"] == "cuda"
    assert result.num_audited > 50
    assert result.bpb < 0.9 * prepared[1].unigram_bpb
    assert result.peak_memory_mb > 0
