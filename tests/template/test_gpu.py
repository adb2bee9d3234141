"""What only a GPU can show: run with `python -m pytest -m gpu -s`, no network; skipped where there is none."""

import os
import sys
from pathlib import Path

import pytest

from autoresearch.bootstrap import presets
from autoresearch.machine import hardware
from autoresearch.types import Outcome, Purpose, TrialSpec

sys.path.insert(0, str(Path(__file__).parent))

HARDWARE = hardware.describe()
SECONDS = float(os.environ.get("GPU_TEST_SECONDS", "60"))
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    # Compilers talk in warnings, other ones in each version.
    pytest.mark.filterwarnings("default"),
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
    from autoresearch.trial.child import attention

    report = attention.measure(attention.Shape("cuda", rows=8, context=1024, window=128))
    yield report
    attention.use(attention.Choice())


def test_the_kernels_of_this_gpu_agree_and_one_is_chosen(kernels):
    assert "sdpa" in kernels.full
    assert "folded" in kernels.windowed
    full, _, windowed = kernels.choice.partition("+")
    assert kernels.full[full] == min(kernels.full.values())
    fastest = min(
        kernels.windowed.values()
    )  # FlexAttention must win clearly: judging compiles it anew
    assert fastest <= kernels.windowed[windowed] <= 1.12 * fastest


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
    """Gradients and one step; later steps part, because training amplifies roundings."""
    import torch
    from fake_trial import FakeTrial, load

    losses, gradients = [], []
    for is_compiled in (False, True):
        module = load(FakeTrial(), **SMALL)
        module.wants_compile = lambda _device, answer=is_compiled: answer
        generator = torch.Generator().manual_seed(1)
        torch.manual_seed(0)
        trainer = module.Trainer(module.build_model(512, 512, "cuda"))
        with torch.no_grad():  # outputs of blocks start at zero, and with them most gradients
            for p in trainer.model.parameters():
                p.add_(0.02 * torch.randn(p.shape, generator=generator).to(p.device))
        rows = torch.randint(512, (16, 513), generator=generator).cuda()
        x, y = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
        first = trainer.accumulate(x, y).item()
        gradients.append({n: p.grad.clone() for n, p in trainer.model.named_parameters()})
        trainer.step(0.1)
        losses.append((first, trainer.accumulate(x, y).item()))
    assert losses[0][1] < losses[0][0] - 0.05
    assert losses[0] == pytest.approx(losses[1], abs=0.03)
    for name, expected in gradients[0].items():
        if expected.ndim:
            difference = (gradients[1][name] - expected).abs().mean()
            assert difference < 0.1 * expected.abs().mean(), name


def test_the_preset_of_this_gpu_fits_it_as_stated(kernels):
    import torch
    from fake_trial import FakeTrial, load

    name = presets.choose_preset(HARDWARE).name
    preset = presets.load_preset(name)
    vocab_size, context = preset.settings["data"]["vocab_size"], preset.constants["CONTEXT"]
    trial = FakeTrial(vocab_size=vocab_size, max_seq_len=context, device="cuda")
    module = load(trial, **preset.constants)
    torch.cuda.reset_peak_memory_stats()
    trainer = module.Trainer(module.build_model(vocab_size, context, "cuda"))
    trainer.warm_up(*trial.synthetic_batch(module.ROWS, module.CONTEXT))
    peak = torch.cuda.max_memory_allocated() / 1e9
    print(f"{name}: {peak:.1f} GB at the peak, {preset.memory_gb:g} GB stated")
    assert sum(p.numel() for p in trainer.model.parameters()) == preset.num_params
    assert peak < 1.25 * preset.memory_gb


@pytest.fixture
def run_on_gpu(tmp_path):
    """Return a function that trains and judges a train.py on the GPU, caches kept between calls."""
    from autoresearch.config import load_config
    from autoresearch.sandbox import choose
    from autoresearch.tasks.gpt.attention import VARIABLE, choose_attention
    from autoresearch.tasks.gpt.data.prepare import open_dataset, prepare
    from autoresearch.tasks.gpt.executor import GptExecutor

    # Enough real text that a fast GPU does not learn it by heart in a minute.
    settings = {
        "data.source": "builtin:python",
        "data.vocab_size": 4096,
        "trial.max_seq_len": 512,
        "trial.device": "cuda",
        "trial.startup_seconds": 300.0,
        "judge.context": 512,
        "judge.eval_tokens": 524_288,
        "judge.batch_rows": 32,
        "judge.audit_positions": 256,
    }
    config = load_config(None, settings).config
    prepare(config)
    dataset = open_dataset(config)
    attention = choose_attention(HARDWARE, max_seq_len=512).choice
    sandbox = choose(is_unsafe_allowed=True)  # some rented machines allow none
    print(f"sandbox: {sandbox.name}")
    executor = GptExecutor(
        config,
        dataset,
        sandbox,
        scratch=tmp_path / "trials",
        cache=tmp_path / "cache",
        environment={VARIABLE: attention},
        device="cuda",
    )

    def run(label, seconds, **constants):
        text = presets.render("gpt", "8gb")["train.py"]
        text = presets.set_constants(text, {**SMALL, **constants})
        files = {"train.py": text.encode()}
        spec = TrialSpec(
            files=files,
            seed=3,
            budget_seconds=seconds,
            label=label,
            purpose=Purpose.BASELINE if label == "0-1" else Purpose.CANDIDATE,
        )
        return executor.run(spec), dataset

    return run


def test_a_real_trial_is_trained_claimed_and_audited_in_a_sandbox(run_on_gpu):
    result, dataset = run_on_gpu("0-1", SECONDS, ROWS=64)
    assert result.outcome is Outcome.OK, result.detail + result.log_tail
    assert result.extra["device"] == "cuda"
    assert result.num_audited > 50
    assert result.score < 0.7 * dataset.unigram_bpb
    assert result.peak_memory_mb > 0
    print(f"{result.tokens_per_second:,.0f} tokens/s, start-up {result.startup_seconds:.1f} s")


def test_compile_caches_shorten_the_start_of_the_next_trial(run_on_gpu):
    first, _ = run_on_gpu("0-1", 3.0)
    again, _ = run_on_gpu("1-1", 3.0, MATRIX_LR=0.03)
    deeper, _ = run_on_gpu("2-1", 3.0, DEPTH=6)
    for result in (first, again, deeper):
        assert result.outcome is Outcome.OK, result.detail + result.log_tail
    seconds = [f"{r.startup_seconds:.1f}" for r in (first, again, deeper)]
    print(f"start-up: {seconds[0]} s cold, {seconds[1]} s again, {seconds[2]} s at another depth")
    assert again.startup_seconds < first.startup_seconds
    assert deeper.startup_seconds < first.startup_seconds
