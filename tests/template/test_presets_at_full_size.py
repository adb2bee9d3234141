"""Each preset traced at its full size without its memory: it builds, steps, and is as large as it says."""

import math
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).resolve().parents[2]))

import bench.train as bench_train  # noqa: E402
from autoresearch.bootstrap import presets  # noqa: E402

PRESETS = presets.preset_names()
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference.md"


def load_full(name):
    """The template with the constants of a preset, its vocabulary and its longest context."""
    from fake_trial import FakeTrial, load

    preset = presets.load_preset(name)
    sizes = preset.settings["data"]["vocab_size"], preset.settings["trial"]["max_seq_len"]
    return preset, load(FakeTrial(), **preset.constants), sizes


@torch.library.custom_op("autoresearch_tests::flash", mutates_args=())
def flash(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Stands for a FlashAttention kernel: keeps what one keeps and computes nothing."""
    return torch.zeros(q.shape, dtype=q.dtype), torch.zeros(q.shape[:3])


@flash.register_fake
def _(q, k, v):
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("autoresearch_tests::flash_backward", mutates_args=())
def flash_backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.zeros_like(grad), torch.zeros_like(grad), torch.zeros_like(grad)


@flash_backward.register_fake
def _(grad, q, k, v, out, lse):
    return tuple(grad.new_empty(grad.shape) for _ in range(3))


def keep(ctx, inputs, output):
    ctx.save_for_backward(*inputs, *output)


flash.register_autograd(
    lambda ctx, grad, _: flash_backward(grad.contiguous(), *ctx.saved_tensors), setup_context=keep
)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_steps_at_full_size(name):
    """Shapes, dtypes, parameters, and the FLOPs that the formula of MFU says."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    preset, module, sizes = load_full(name)
    is_half = "bf16" in preset.numbers
    dtype = torch.bfloat16 if is_half else torch.float32
    module.compute_dtype = lambda _device: dtype
    module.attend = lambda q, k, v, _window: flash(q, k, v)[0]
    with FakeTensorMode():
        trainer = module.Trainer(module.build_model(*sizes, "cpu"))
        x = torch.zeros((module.ROWS, module.CONTEXT), dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            features = trainer.model.features(x)
            loss = trainer.loss_of(features, trainer.model.head.weight, x)
            loss.backward()
        assert features.dtype == dtype
        assert loss.dtype == torch.float32
        for p in trainer.model.parameters():
            assert p.dtype == p.grad.dtype == torch.float32
        before = [p.shape for p in trainer.model.parameters()]
        trainer.step(1.0)
        assert [p.shape for p in trainer.model.parameters()] == before
    assert sum(p.numel() for p in trainer.model.parameters()) == preset.num_params
    blocks = sum(p.numel() for p in trainer.model.blocks.parameters())
    per_token = bench_train.mfu_percent(
        1.0,
        num_matrix_params=blocks + trainer.model.head.weight.numel(),
        attention_tokens=0.0,
        attention_width=0,
        depth=module.DEPTH,
        peak=1e-10,
    )
    assert counter.get_total_flops() / x.numel() == pytest.approx(per_token, rel=0.001)


def test_mfu_by_hand():
    # 6 * 1e6 + 12 * 2 * 100 * 50 = 6.12e6 FLOPs a token; 1e6 tokens/s on 100 TFLOPS is 6.12 %.
    mfu = bench_train.mfu_percent(
        1e6,
        num_matrix_params=1_000_000,
        attention_tokens=50,
        attention_width=100,
        depth=2,
        peak=100.0,
    )
    assert abs(mfu - 6.12) < 1e-9


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["h100", "80gb", "24gb", "12gb", "8gb", "turing", "rocm"])
def test_a_preset_takes_the_memory_it_states(name):
    """Counted on one row and on two: what the partitioner of torch.compile keeps for the backward pass."""
    from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
    from torch._dynamo.backends.common import aot_autograd
    from torch._inductor.decomposition import select_decomp_table

    def run_as_it_is(graph, _inputs):
        return make_boxed_func(graph.forward)

    backend = aot_autograd(
        fw_compiler=run_as_it_is,
        bw_compiler=run_as_it_is,
        partition_fn=min_cut_rematerialization_partition,
        decompositions=select_decomp_table(),
    )
    preset, module, sizes = load_full(name)
    dtype = torch.float32 if name == "turing" else torch.bfloat16
    module.compute_dtype = lambda _device: dtype
    module.attend = lambda q, k, v, _window: flash(q, k, v)[0]
    model = module.build_model(*sizes, "cpu")
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = []
    for rows in (1, 2):
        torch._dynamo.reset()
        for block in model.blocks:
            block.compile(dynamic=False, backend=backend)
        loss_of = torch.compile(module.loss_of, dynamic=False, backend=backend)
        storages = {}

        def note(tensor, storages=storages):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            x = torch.zeros((rows, module.CONTEXT), dtype=torch.long)
            loss_of(model.features(x), model.head.weight, x)
        kept.append(sum(storage.nbytes() for storage in storages.values()))
    torch._dynamo.reset()
    a_row = kept[1] - kept[0]
    logits = dtype.itemsize * sizes[0] * module.CONTEXT  # their gradient
    matrices = sum(p.numel() for p in model.blocks.parameters())
    rest = preset.num_params - matrices
    # Weights and gradients, two averages of AdamW, one of Muon, all float32; what does not grow with rows.
    fixed = 4 * (4 * rest + 3 * matrices) + kept[0] - a_row
    peak = (module.ROWS * (a_row + logits) + fixed) / 1e9
    assert peak == pytest.approx(preset.memory_gb, rel=0.05)


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_states_the_preset(name):
    preset, module, _ = load_full(name)
    line = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| {name} |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    tokens = module.ROWS * module.CONTEXT * module.ACCUMULATE
    assert cells[2] == f"{module.DEPTH} x {module.WIDTH}"
    assert cells[3] == f"{preset.num_params / 1e6:.1f} M"
    assert cells[4] == f"{module.CONTEXT:,}"
    assert cells[5] == f"{tokens:,}"
    assert cells[6] == f"{preset.memory_gb:g} GB"
    assert cells[7] == f"{preset.settings['trial']['budget_seconds']:g} s"
    evaluated = preset.settings["judge"]["eval_tokens"]
    assert cells[8] == f"{evaluated:,}"
    assert math.isfinite(preset.memory_gb)
