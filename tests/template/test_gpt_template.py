"""The gpt template keeps the contract of a trial and learns."""

import gc
import json
import operator
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))

from fake_trial import TEMPLATE, FakeTrial, load  # noqa: E402


@pytest.fixture(autouse=True)
def collector():
    torch.set_num_threads(1)
    yield
    gc.enable()
    gc.unfreeze()


def randomize(model):
    """Move every parameter off its initial value: outputs of blocks start at zero."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model.eval()


def test_is_short():
    assert len(TEMPLATE.read_text(encoding="utf-8").splitlines()) < 450


def test_training_lowers_the_loss():
    trial = FakeTrial(num_batches=60)
    load(trial).main()
    first, last = trial.logged[0]["loss"], trial.logged[-1]["loss"]
    assert first == pytest.approx(torch.tensor(64.0).log().item(), abs=0.1)
    assert last < 0.6 * first
    assert trial.model is not None


def test_the_learning_rate_falls_to_its_final_share():
    trial = FakeTrial(num_batches=40)
    module = load(trial)
    module.main()
    assert trial.logged[0]["lr"] == 1.0
    assert trial.logged[-1]["lr"] == pytest.approx(module.FINAL_LR, abs=0.05)


def test_accumulation_steps_once_in_so_many_batches():
    trial = FakeTrial(num_batches=9)
    load(trial, ACCUMULATE=4).main()
    assert len(trial.logged) == 2


def test_warm_up_leaves_no_trace():
    trial = FakeTrial()
    module = load(trial)
    torch.manual_seed(0)
    trainer = module.Trainer(module.build_model(64, 64, "cpu"))
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.warm_up(*trial.synthetic_batch(4, 64))
    assert all(torch.equal(v, before[k]) for k, v in trainer.model.state_dict().items())
    tensors = [t for o in trainer.optimizers for state in o.state for t in state]
    flat = [u for t in tensors for u in (t if isinstance(t, list) else [t])]
    assert all(not u.any() for u in flat)


@pytest.mark.parametrize("window", [0, 8])
def test_forward_is_causal_by_row_and_at_any_length(window):
    module = load(FakeTrial(), SHORT_WINDOW=window, DEPTH=4)
    model = randomize(module.build_model(64, 64, "cpu"))
    idx = torch.randint(64, (3, 64))
    with torch.inference_mode():
        logits = model(idx)
        assert logits.shape == (3, 64, 64)
        assert logits.dtype == torch.float32
        changed = idx.clone()
        changed[:, 40:] = (changed[:, 40:] + 1) % 64
        torch.testing.assert_close(model(changed)[:, :40], logits[:, :40])
        assert not torch.allclose(model(changed)[:, 40:], logits[:, 40:])
        torch.testing.assert_close(model(idx[1:2]), logits[1:2])
        torch.testing.assert_close(model(idx[:, :13]), logits[:, :13])


@pytest.mark.parametrize(
    "constants",
    [
        {"DEPTH": 1},
        {"DEPTH": 5, "VALUE_EMBED_EVERY": 0},
        {"WIDTH": 96, "NUM_HEADS": 3, "HEAD_SIZE": 16},
        {"NUM_HEADS": 1, "HEAD_SIZE": 32},
        {"TIED_HEAD": True},
        {"LOGIT_CAP": 0.0},
        {"SHORT_WINDOW": 16, "LONG_EVERY": 3},
        {"MLP_RATIO": 1},
        {"COOLDOWN": 0.0},
        {"COOLDOWN": 1.0},
        {"CONTEXT": 33, "ROWS": 3},
    ],
    ids=str,
)
def test_every_constant_may_change_alone(constants):
    trial = FakeTrial(num_batches=12)
    load(trial, **constants).main()
    losses = [values["loss"] for values in trial.logged]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"HEAD_SIZE": 15}, "HEAD_SIZE must be even"),
        ({"DEPTH": 0}, "DEPTH must be at least 1"),
        ({"NUM_HEADS": 0}, "NUM_HEADS must be at least 1"),
        ({"WIDTH": 16}, "WIDTH must be at least 32"),
        ({"CONTEXT": 65}, "CONTEXT must be at most 64"),
    ],
)
def test_a_constant_that_does_not_fit_is_named(constants, message):
    with pytest.raises(ValueError, match=message):
        load(FakeTrial(), **constants).main()


def test_the_model_builds_on_the_meta_device_with_the_same_keys():
    module = load(FakeTrial())
    meta = module.build_model(64, 64, "meta").state_dict()
    real = module.build_model(64, 64, "cpu").state_dict()
    assert {k: v.shape for k, v in meta.items()} == {k: v.shape for k, v in real.items()}


def test_muon_makes_matrices_nearly_orthogonal():
    module = load(FakeTrial())
    torch.manual_seed(0)
    for rows, columns in ((64, 64), (256, 64), (64, 256)):
        grads = torch.randn(2, rows, columns)
        zeros = torch.zeros_like(grads)
        rates = torch.tensor([1.0, 0.0, 0.0])
        new = module.muon_update(zeros, grads, zeros.clone(), zeros[:, :, :1].clone(), rates)
        values = torch.linalg.svdvals(new) / max(1.0, rows / columns) ** 0.5
        assert values.max() < 1.2
        assert values.median() == pytest.approx(1.0, abs=0.05)
        if rows != columns:  # a square random matrix has a singular value near zero
            assert values.min() > 0.8


def test_weights_decay_only_where_the_update_agrees():
    module = load(FakeTrial())
    torch.manual_seed(0)
    weights, grads = torch.randn(1, 8, 8), torch.randn(1, 8, 8)
    state = lambda: (torch.zeros(1, 8, 8), torch.zeros(1, 8, 1))  # noqa: E731
    plain = module.muon_update(weights, grads, *state(), torch.tensor([0.1, 0.0, 0.0]))
    decayed = module.muon_update(weights, grads, *state(), torch.tensor([0.1, 0.0, 0.5]))
    is_decayed = (plain - decayed).abs() > 1e-7
    assert torch.equal(is_decayed, (weights - plain) * weights > 0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [(8, "set ROWS = 4 and ACCUMULATE = 2, the same tokens"), (1, "halve CONTEXT, then WIDTH")],
)
def test_a_step_that_does_not_fit_says_what_to_set(rows, message, monkeypatch):
    trial = FakeTrial()
    module = load(trial, ROWS=rows)

    def full(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(module, "loss_of", full)
    with pytest.raises(torch.OutOfMemoryError, match=message):
        module.main()


@pytest.mark.parametrize(
    "text",
    [
        "shapes do not match",
        "CUDA error: an illegal memory access was encountered",
        "out of resource: shared memory, Required: 278528, Hardware limit: 232448",
    ],
)
def test_other_errors_of_the_warm_up_stay_as_they_are(text, monkeypatch):
    module = load(FakeTrial())

    def broken(*_):
        raise RuntimeError(text)

    monkeypatch.setattr(module, "loss_of", broken)
    with pytest.raises(RuntimeError, match=text):
        module.main()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_another_depth_compiles_nothing_of_the_optimizer_anew():
    from torch._dynamo.testing import CompileCounter

    module = load(FakeTrial(), DEPTH=3)
    counter = CompileCounter()
    update = torch.compile(module.muon_update, dynamic=False, backend=counter)
    for depth in (2, 3, 6):
        module.DEPTH = depth
        model = module.build_model(64, 64, "cpu")
        muon = module.build_optimizers(model)[1]
        muon.update, muon.is_compiled = update, True
        x = torch.randint(64, (2, 32))
        module.loss_of(model.features(x), model.head.weight, x).backward()
        muon.step(1.0)
        assert counter.frame_count == 3  # one for each shape of matrix


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")
def test_one_compiled_block_serves_all_of_its_kind():
    from torch._dynamo.testing import CompileCounter

    module = load(FakeTrial(), DEPTH=6, LONG_EVERY=6, SHORT_WINDOW=16)
    counter = CompileCounter()
    model = module.build_model(64, 64, "cpu")
    keys = list(model.state_dict())
    for block in model.blocks:
        block.compile(dynamic=False, backend=counter)
    x = torch.randint(64, (2, 64))
    compiled = model(x)
    assert counter.frame_count == 3  # short with and without a value embedding, and the long one
    assert list(model.state_dict()) == keys
    eager = module.build_model(64, 64, "cpu")
    eager.load_state_dict(model.state_dict())
    torch.testing.assert_close(eager(x), compiled)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")
def test_a_number_of_each_block_does_not_end_compilation(monkeypatch):
    """Of torch's own limit of 8 kinds the ninth would run uncompiled, with a warning alone."""
    import torch._dynamo
    from torch._dynamo.testing import CompileCounter

    module = load(FakeTrial(), DEPTH=12, VALUE_EMBED_EVERY=0)
    monkeypatch.setitem(sys.modules, module.__name__, module)  # torch looks globals up there
    module.wants_compile = lambda _device: True
    with torch._dynamo.config.patch(recompile_limit=torch._dynamo.config.recompile_limit):
        trainer = module.Trainer(module.build_model(64, 64, "cpu"))
        counter = CompileCounter()
        for i, block in enumerate(trainer.model.blocks):
            block.scale = (i + 1) ** -0.5
            forward = type(block).forward
            block.forward = types.MethodType(
                lambda self, x, *rest, forward=forward: self.scale * forward(self, x, *rest), block
            )
            block.compile(dynamic=False, backend=counter)
        trainer.model(torch.randint(64, (2, 64)))
    assert counter.frame_count == 12


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_products_of_muon_leave_nothing_between_them_to_compile():
    from torch._dynamo.testing import EagerAndRecordGraphs

    module = load(FakeTrial())
    backend = EagerAndRecordGraphs()
    update = torch.compile(module.muon_update, dynamic=False, backend=backend)
    w = torch.randn(2, 32, 64)
    update(w, w, torch.zeros_like(w), torch.zeros(2, 32, 1), torch.tensor([0.1, 0.9, 0.1]))
    nodes = [n for n in backend.graphs[0].graph.nodes if n.op in ("call_function", "call_method")]
    products = [
        i for i, n in enumerate(nodes) if "bmm" in str(n.target) or n.target is operator.matmul
    ]
    assert len(products) == 3 * len(module.POLAR_EXPRESS)
    between = nodes[products[0] : products[-1]]
    others = {str(n.target) for i, n in enumerate(between) if i + products[0] not in products}
    assert others <= {"<built-in function getattr>"}  # transposes


def test_the_two_forms_of_the_cap_and_of_the_order_of_norm_and_rotation_are_one():
    module = load(FakeTrial(), LOGIT_CAP=15.0)
    torch.manual_seed(0)
    logits = 40 * torch.randn(8, 64)
    expected = 15.0 * torch.tanh(logits / 15.0)
    torch.testing.assert_close(module.cap(logits), expected, atol=1e-5, rtol=1e-5)
    x, angles = torch.randn(2, 5, 3, 32), torch.randn(5, 1, 16)
    a = module.rotate(module.norm(x), angles.cos(), angles.sin())
    b = module.norm(module.rotate(x, angles.cos(), angles.sin()))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("steps", "first"), [(4, 0.875), (0, 0.95)])
def test_momentum_rises_and_the_decay_fades(steps, first):
    """What Muon is given at each step; a warm-up before the clock starts does not count."""
    trial = FakeTrial(num_batches=10)
    module = load(trial, MOMENTUM_STEPS=steps, FINAL_DECAY=0.5, MATRIX_DECAY=0.2)
    seen, update = [], module.muon_update

    def note(weights, grads, average, variance, rates, dtype):
        seen.append(tuple(rates))
        return update(weights, grads, average, variance, rates, dtype)

    module.muon_update = note
    module.main()
    groups = len(module.Muon(list(trial.model.blocks[0].attention.out.parameters())).groups)
    assert groups == 1
    num = len(seen) // 12  # two of them are the warm-up
    momenta, decays = [r[1] for r in seen[2 * num :: num]], [r[2] for r in seen[2 * num :: num]]
    assert momenta[0] == pytest.approx(first)
    assert momenta[-1] == pytest.approx(0.95)
    assert momenta == sorted(momenta)
    assert decays == pytest.approx([0.2 * (1 - 0.5 * (i + 1) / 10) for i in range(10)])


def test_adamw_is_that_of_torch():
    module = load(FakeTrial())
    torch.manual_seed(0)
    ours, theirs = torch.nn.Parameter(torch.randn(5, 7)), torch.nn.Parameter(torch.zeros(5, 7))
    theirs.data.copy_(ours.data)
    adam = module.AdamW([{"params": [ours], "lr": 0.1, "decay": 0.02}])
    reference = torch.optim.AdamW(
        [theirs], lr=0.05, betas=(module.BETA1, module.BETA2), eps=1e-10, weight_decay=0.02
    )
    for _ in range(3):
        ours.grad = torch.randn(5, 7)
        theirs.grad = ours.grad.clone()
        adam.step(0.5)
        reference.step()
    torch.testing.assert_close(ours, theirs)


def test_training_on_a_cpu_imports_no_compiler():
    code = (
        "import sys; from fake_trial import FakeTrial, load; m = load(FakeTrial()); m.main();"
        "m.build_model(64, 64, 'meta');"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == "False"


COMPILED_STEP = """
import json, sys, torch
from torch._dynamo.utils import counters
from fake_trial import FakeTrial, load
depth, rate = int(sys.argv[1]), float(sys.argv[2])
module = load(FakeTrial(), DEPTH=depth, MATRIX_LR=rate, SHORT_WINDOW=16, LONG_EVERY=2, ACCUMULATE=2)
module.wants_compile = lambda device: True
trial = FakeTrial()
trainer = module.Trainer(module.build_model(64, 64, "cpu"))
before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
trainer.warm_up(*trial.synthetic_batch(4, 64))
assert all(torch.equal(v, before[k]) for k, v in trainer.model.state_dict().items())
names = ("fxgraph_cache_hit", "fxgraph_cache_miss")
print(json.dumps([counters["inductor"][name] for name in names]))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_another_depth_finds_all_it_needs_in_the_compile_cache(tmp_path):
    """With the compiler of this machine, each time in a new process: start-up of an experiment."""

    def compile_at(depth, rate):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", COMPILED_STEP, str(depth), str(rate)],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parent,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
            },
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    hits, misses = compile_at(4, 0.04)
    assert (hits, misses > 0) == (0, True)
    assert compile_at(4, 0.02) == [misses, 0]
    assert compile_at(6, 0.04) == [misses, 0]
