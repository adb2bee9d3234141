"""The shim for upstream's scripts, in this process: what judging sees."""

import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from autoresearch.paths import templates_directory  # noqa: E402
from autoresearch.trial.child import compat  # noqa: E402
from autoresearch.trial.child.compat import building, clock, lab, refusals, training  # noqa: E402
from autoresearch.trial.child.script import describe, run_file  # noqa: E402

FOLDER = templates_directory() / "compat"


@pytest.fixture
def judged(monkeypatch):
    """The module as the judge loads it."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("prepare", "kernels", "train"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(SystemExit):
        run_file(str(FOLDER / "train.py"), "train")
    yield sys.modules["train"]
    for name in ("prepare", "kernels", "train"):
        sys.modules.pop(name, None)


def test_judging_builds_the_model_without_training(judged):
    model = judged.build_model(100, 32, "cpu").eval()
    with torch.inference_mode():
        logits = model(torch.randint(100, (2, 20)))
    assert logits.shape == (2, 20, 100)
    assert model.wpe.num_embeddings == 32
    assert all(not key.startswith("_orig_mod") for key in model.state_dict())


def test_a_script_is_told_the_device(judged):
    judged.build_model(100, 32, "cpu:0")
    assert str(sys.modules["prepare"].DEVICE) == "cpu:0"
    assert str(compat.DEVICE) == "cpu:0"


def test_a_warm_up_leaves_no_trace_in_parameters_or_buffers():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    loss = lambda x, _: seen.append(x) or torch.nn.Sequential.forward(model, x).sum()  # noqa: E731
    model.forward = loss
    training.warm_up({"optimizer": optimizer}, model, (torch.randn(8, 4), torch.zeros(8)))
    assert len(seen) == 2
    assert not optimizer.state
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is None for p in model.parameters())


def test_kernels_are_answered_by_our_attention(judged):
    import kernels

    flash = kernels.get_kernel("someone/flash-attention-3").flash_attn_interface.flash_attn_func
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 40, 4, 16) for _ in range(3))
    plain = flash(q, k, v, causal=True, window_size=(40, 0))
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(t.transpose(1, 2) for t in (q, k, v)), is_causal=True
    )
    torch.testing.assert_close(plain, expected.transpose(1, 2))
    assert not torch.allclose(flash(q, k, v, causal=True, window_size=(8, 0)), plain)
    grouped = flash(q, k[:, :, :2], v[:, :, :2], causal=True)
    assert grouped.shape == q.shape
    with pytest.raises(ValueError, match="only causal"):
        flash(q, k, v, causal=False)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("from prepare import DATASET_CHOICES", "`prepare.DATASET_CHOICES` is not there in a trial"),
        ("import prepare; prepare.DATASET_CHOICES", "data and tokenizer are the lab's"),
        ("import prepare; prepare.get_token_bytes()", "the judge computes val_bpb"),
        ("from prepare import Tokenizer; Tokenizer().decode([1])", "has no text to encode or decode"),
        (
            "from prepare import make_dataloader; next(make_dataloader(None, 8, 32))",
            "must build its model before it takes its first batch",
        ),
        ("from prepare import make_dataloader; make_dataloader(None, 8, 32, 'val')", "training tokens only"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_explained(tmp_path, monkeypatch, line, told):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "prepare", raising=False)
    (tmp_path / "train.py").write_text(line + "\n")
    with pytest.raises((ImportError, AttributeError, RuntimeError), match=told):
        compat.builder(tmp_path / "train.py")(100, 32, "cpu")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("make_dataloader(tokenizer, 8, 32, 'val')", "sees training tokens only"),
        ("loaders.make_dataloader(tokenizer, B=8, T=32, split='val')", ""),
        ("prepare.make_dataloader(tokenizer, B=8, T=32, split='val')", "sees training tokens only"),
        ("make_dataloader(tokenizer, 8, 32, split)", ""),
        ("make_dataloader(tokenizer, 8, 32, 'train')", ""),
        ("counts = token_bytes('cpu')", "the judge computes val_bpb"),
        ("print(self.tokenizer.decode([1]))", "has no text to encode or decode"),
        ("'x'.encode()", ""),
    ],
)
def test_what_will_be_refused_is_found_before_it_is_reached(tmp_path, line, told):
    script = tmp_path / "train.py"
    script.write_text(
        "import prepare\nfrom prepare import Tokenizer, get_token_bytes as token_bytes, make_dataloader\n"
        f"self.tokenizer = Tokenizer.from_directory()\nwhile True:\n    pass\n{line}\n"
    )
    if not told:
        assert refusals.foresee(script) is None
        return
    with pytest.raises(RuntimeError, match=told) as raised:
        refusals.foresee(script)
    assert raised.traceback[-1].lineno == 5  # from 0
    assert describe(raised.value, "train.py")["line"] == 6


SMALL = """
import torch
from prepare import make_dataloader
class Net(torch.nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.embed = torch.nn.Embedding(vocab_size, vocab_size)
    def forward(self, idx, targets=None):
        return self.embed(idx){cut}
model = Net(100 + {more})
next(make_dataloader(None, 8, 32))
"""


@pytest.mark.parametrize(
    ("cut", "more", "told"),
    [("[:, :3]", 0, r"forward\(idx\) must return logits"), ("", 1, "keys or shapes|size mismatch")],
)
def test_judging_is_tried_with_the_weights_there_are(tmp_path, monkeypatch, cut, more, told):
    (tmp_path / "train.py").write_text(SMALL.format(cut=cut, more=more))
    (tmp_path / "prepare.py").write_bytes((FOLDER / "prepare.py").read_bytes())
    monkeypatch.setattr(lab.Lab, "root", tmp_path)
    trial = SimpleNamespace(device=torch.device("cpu"), vocab_size=100, max_seq_len=32, seed=1)
    model = torch.nn.ModuleDict({"embed": torch.nn.Embedding(100, 100)})
    with pytest.raises(RuntimeError, match=f"judging would fail: .*({told})"):
        building.try_judging(trial, model)


LOADED_BY_A_THREAD = SMALL.replace(
    "next(make_dataloader(None, 8, 32))",
    """
import queue, threading
ready = queue.Queue(1)
threading.Thread(target=lambda: ready.put(next(make_dataloader(None, 8, 32)))).start()
ready.get()
""",
)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # SystemExit
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("script", [SMALL, LOADED_BY_A_THREAD])
@pytest.mark.parametrize("given", ["{}, None", "dict(loss=None, logits={})"])
def test_the_logits_are_found_in_what_a_model_gives(tmp_path, monkeypatch, script, given):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "prepare", raising=False)
    text = script.format(cut="", more=0).replace("self.embed(idx)", given.format("self.embed(idx)"))
    (tmp_path / "train.py").write_text(text)
    before = threading.enumerate()
    model = compat.builder(tmp_path / "train.py")(100, 32, "cpu")
    for (
        thread
    ) in threading.enumerate():  # the loader's ends by SystemExit, in this test and not in the next
        if thread not in before:
            thread.join()
    assert model(torch.zeros(2, 5, dtype=torch.long)).shape == (2, 5, 100)


def test_a_seed_is_shifted_however_it_is_given(monkeypatch):
    import random

    import numpy as np

    for owner, name in (
        (torch, "manual_seed"),
        (np.random, "seed"),
        (np.random, "default_rng"),
        (random, "seed"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    for name in ("manual_seed", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, getattr(torch.cuda, name))
    given = np.random.default_rng(45).integers(1000)
    training._shift_seeds(3)
    assert np.random.default_rng(seed=42).integers(1000) == given
    np.random.seed(seed=1)
    random.seed(a=2)
    torch.manual_seed(seed=3)
    assert (torch.initial_seed(), random.random()) == (6, random.Random(5).random())
    random.seed()


def test_try_gives_a_script_the_files_it_imports(tmp_path, monkeypatch):
    from autoresearch.cli import main
    from autoresearch.errors import UsageError
    from autoresearch.session.build import working_files

    monkeypatch.chdir(tmp_path)
    assert main(["init", "lab", "--template", "compat", "--quiet"]) == 0
    lab = tmp_path / "lab"
    mine = (lab / "prepare.py").read_bytes() + b"changed = True\n"
    (lab / "prepare.py").write_bytes(mine)
    (lab / "notes.txt").write_text("mine\n")
    files = working_files(lab, ["train.py"])
    assert {"train.py", "prepare.py", "kernels.py", "autoresearch.toml"} <= set(files)
    assert files["prepare.py"] == mine
    assert "notes.txt" not in files
    (lab / "train.py").unlink()
    with pytest.raises(UsageError, match="is missing in"):
        working_files(lab, ["train.py"])


def test_a_script_that_is_imported_outside_a_trial_says_what_to_do(monkeypatch):
    line = "import sys; sys.path.insert(0, sys.argv[1]); import train"
    done = subprocess.run(
        [sys.executable, "-c", line, str(FOLDER)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "builder('train.py')" in done.stderr
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "prepare", raising=False)
    model = compat.builder(FOLDER / "train.py")(100, 32, "cpu")
    assert model.wpe.num_embeddings == 32


def test_prepare_py_that_is_run_says_what_to_run():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "prepare.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "run `autoresearch prepare`" in done.stderr


@pytest.mark.parametrize(
    ("seconds", "is_clock"),
    [(300.0, True), (292.0, True), (310.0, True), (100.0, False), (400, False)],
)
def test_what_may_be_the_scripts_clock_is_answered_by_the_labs(monkeypatch, seconds, is_clock):
    """Half of the budget is spent; the first steps took 20 s, the warm-up 30 s."""
    now = clock.time.monotonic()
    for name, value in (
        ("budget_seconds", 600.0), ("started_at", now - 300.0), ("joined_at", now - 330.0),
        ("num_steps", 50), ("slack", 20.0),
    ):  # fmt: skip
        monkeypatch.setattr(lab.Lab, name, value)
    monkeypatch.setattr(clock.time, "monotonic", lambda: now)
    budget = clock.Budget(600.0)
    assert seconds / budget == pytest.approx(0.5 if is_clock else seconds / 600)
    assert budget - seconds == pytest.approx(300 if is_clock else 600 - seconds)
    assert not seconds >= budget
    assert seconds < budget
    part = 0.5 if is_clock else seconds / 600
    assert seconds / 60 / (budget / 60) == pytest.approx(part)
    assert 1000 * seconds / (1000 * budget) == pytest.approx(part)
    assert seconds / (budget * 0.9) == pytest.approx(part / 0.9)
    assert budget / 60 > seconds / 60
    deadline = 1e9 + budget  # by the time of day
    assert (deadline - (1e9 + seconds)) == pytest.approx(600 - 600 * part)
    assert 1e9 + seconds < deadline
    monkeypatch.setattr(lab.Lab, "steps", [now - 20, now - 10, now])  # 10 s a step
    assert 300.0 / budget == pytest.approx(300 / 585)
    assert budget * 2 == 1200.0
    assert int(budget / 60) == 10
