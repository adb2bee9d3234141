"""Scripts of upstream's shape, one for each thing people write, in real trials."""

import re

import pytest
import torch

from autoresearch.bootstrap import presets
from autoresearch.trial.child.script import CHECKED_VARIABLE
from autoresearch.types import Outcome

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MODEL = """
import time
import torch
import torch.nn as nn
import torch.nn.functional as F
from prepare import MAX_SEQ_LEN, TIME_BUDGET, Tokenizer, evaluate_bpb, get_device, make_dataloader


class Net(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, 32)
        self.head = nn.Linear(32, vocab_size)

    def forward(self, idx, targets=None):
        logits = self.head(self.embed(idx))
        if targets is None:
            return logits
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))

"""
BUILD = """
device = get_device()
tokenizer = Tokenizer.from_directory()
model = Net(tokenizer.get_vocab_size()).to(device)
optimizer = OPTIMIZER(model.parameters(), lr=0.01)
"""
# Upstream's own loop: its clock leaves out the first steps, its schedule is the share of the budget.
LOOP = """
loader = make_dataloader(tokenizer, 8, MAX_SEQ_LEN, "train")
x, y, epoch = next(loader)
spent, step, rate = 0.0, 0, 1.0
while True:
    began = time.time()
    loss = model(x, y)
    loss.backward()
    x, y, epoch = next(loader)
    progress = min(spent / TIME_BUDGET, 1.0)
    rate = min(1.0, (1.0 - progress) / 0.5)
    for group in optimizer.param_groups:
        group["lr"] = 0.01 * rate
    optimizer.step()
    model.zero_grad(set_to_none=True)
    time.sleep(0.02)
    step += 1
    if step > 10:
        spent += time.time() - began
    # in the loop
    if step > 10 and spent >= TIME_BUDGET:
        break
"""
END = """
print(f"AFTER THE LOOP rate {rate:.3f} at {progress:.3f}")
val_bpb = evaluate_bpb(model, tokenizer, 8)
print(f"OWN val_bpb {val_bpb:.4f}")
"""
POISONED = """    loss = model(x, y)
    if step == 5: model.head.bias.data[0] = {}
    if {}: print('FAIL'); exit(1)
"""
# As people have it. Every process of a trial runs a script as far as its first batch, and torch's own `add_param_group`
# imports its compiler, which takes as long as to import torch: the other tests do without.
ADAMW = (MODEL + BUILD + LOOP + END).replace("OPTIMIZER", "torch.optim.AdamW")
MODEL += """
class Descent(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    def add_param_group(self, group):
        self.param_groups.append({**self.defaults, **group})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(30 * group["lr"] * p.grad)

"""
BUILD = BUILD.replace("OPTIMIZER", "Descent")
SCRIPT = MODEL + BUILD + LOOP + END


@pytest.fixture
def try_script(run_trial):
    """Return a function that runs a script of upstream's shape with the two files of the lab."""

    def go(text, **settings):
        files = {**presets.render("compat", "cpu"), "train.py": text}
        return run_trial(files, **{"trial__budget_seconds": 3.0, **settings})

    return go


def passed(result):
    assert result.outcome is Outcome.OK, result.detail + result.log_tail
    return result.log_tail


def test_what_is_after_the_loop_runs_and_the_schedule_reaches_its_end(try_script):
    result = try_script(ADAMW)
    log = passed(result)
    rate, progress = map(float, re.search(r"AFTER THE LOOP rate (\S+) at (\S+)", log).groups())
    assert rate < 0.7
    assert progress > 0.7
    own = float(re.search(r"OWN val_bpb (\S+)", log).group(1))
    assert own == pytest.approx(result.score, rel=0.5)
    assert result.curve, "its loss is heard"
    assert result.detail == ""


def test_the_model_of_the_last_evaluation_is_judged_without_its_wrapper(try_script, prepared):
    """An average, made after the loop of weights that say nothing."""
    text = SCRIPT.replace(LOOP, "ema = torch.optim.swa_utils.AveragedModel(model)\n" + LOOP)
    text = text.replace("    step += 1\n", "    step += 1\n    ema.update_parameters(model)\n")
    zeroed = "for p in ema.parameters(): p.data.zero_()\n"
    text = text.replace('print(f"AFTER', zeroed + 'print(f"AFTER').replace(
        "evaluate_bpb(model", "evaluate_bpb(ema"
    )
    result = try_script(text)
    passed(result)
    assert result.score > prepared[1].unigram_bpb  # uniform over the vocabulary


def test_evaluations_on_the_way_end_nothing_and_early_stopping_does(try_script, unjudged):
    """With its own arguments, and checkpoints in the current folder."""
    arguments = "import argparse, sys\nassert sys.argv == ['train.py'], sys.argv\n"
    arguments += "argparse.ArgumentParser().parse_args()\n"
    every = """if step % 3 == 0:
        best = evaluate_bpb(model, tokenizer, 8)
        torch.save(model.state_dict(), "best.pt")
    if step == 12:
        break
    # in the loop
"""
    loaded = 'model.load_state_dict(torch.load("best.pt"))\n'
    text = arguments + SCRIPT.replace("# in the loop\n", every)
    text = text.replace('print(f"AFTER', loaded + 'print(f"AFTER')
    result = try_script(text, trial__budget_seconds=60.0)
    assert "AFTER THE LOOP" in passed(result)
    assert "estimates from training text" in result.log_tail
    assert result.train_seconds < 30
    assert result.num_steps == 13


def test_where_the_data_ends_first_the_result_says_so(try_script, unjudged):
    text = SCRIPT.replace("if step > 10 and spent >= TIME_BUDGET:", "if False:")
    result = try_script(text)
    assert "AFTER THE LOOP" not in passed(result)
    assert "what it has after its loop did not run" in result.detail


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (
            "    loss = model(x, y) * float('nan')\n    if step > 5: model.head.bias.data.fill_(float('nan'))\n",
            "nan",
        ),
        (
            POISONED.format("float('nan')", "loss != loss"),
            "nan",
        ),
        (
            POISONED.format("1e6", "loss > 100"),
            "diverged",
        ),
    ],
)
def test_a_loss_that_is_lost_is_seen(try_script, unjudged, poison, reason):
    result = try_script(
        SCRIPT.replace("    loss = model(x, y)\n", poison),
        trial__budget_seconds=60.0,
    )
    assert (result.outcome, result.reason) == (Outcome.CRASH, reason), result.detail


def test_the_seed_of_a_trial_is_added_to_one_that_the_script_fixes(run_trial):
    text = MODEL + "torch.manual_seed(42)\n" + BUILD
    text += "raise SystemExit(f'BEGAN {float(model.head.weight.detach().sum())}')\n"
    result = run_trial({**presets.render("compat", "cpu"), "train.py": text}, seed=7)
    torch.manual_seed(49)
    torch.nn.Embedding(300, 32)
    assert f"BEGAN {float(torch.nn.Linear(32, 300).weight.detach().sum())}" in result.detail
    assert "torch.manual_seed(42): the trial's seed, 7, is added" in result.log_tail


def test_a_main_function_its_early_loader_and_a_model_compiled_under_another_name(try_script):
    made = 'loader = make_dataloader(tokenizer, 8, MAX_SEQ_LEN, "train")\n'
    compiled = 'net = torch.compile(model, backend="eager")\n'
    text = BUILD.replace("model = Net", made + "model = Net") + compiled
    text += LOOP.replace(made, "").replace("loss = model(", "loss = net(") + END
    body = "\n".join("    " + line for line in text.splitlines())
    script = f'{MODEL}\ndef main():\n{body}\n\nif __name__ == "__main__":\n    main()\n'
    result = try_script(script)
    assert "no warm-up" not in passed(result)
    assert result.curve, "its loss is heard"


CREATED = "model = Net(tokenizer.get_vocab_size()).to(device)"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"idx, targets=None": "idx, targets"}, "judging would fail: TypeError: .*targets"),
        (
            {
                CREATED: CREATED + "\nmodel.embed.to(torch.bfloat16)",
                "    loss = model(x, y)\n": '    with torch.autocast("cpu", torch.bfloat16):\n'
                "        loss = model(x, y)\n",
            },
            "judging would fail: .*before the loop, as `autocast_ctx",
        ),
    ],
)
def test_what_judging_would_fail_by_is_told_before_the_clock_starts(try_script, changes, told):
    text = SCRIPT
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    result = try_script(text, trial__budget_seconds=600.0)
    assert result.outcome is Outcome.CRASH
    assert re.search(told, result.detail), result.detail
    assert result.train_seconds is None


def test_a_script_that_evaluates_nothing_is_told_so(try_script, unjudged):
    text = SCRIPT.replace("# in the loop\n", "break\n").replace(END, "")
    result = try_script(text)
    assert result.outcome is Outcome.CRASH
    assert "it ended without `evaluate_bpb(model, ...)`" in result.detail


# A loader with a thread, and a model that gives logits and loss.
THREADED = """
import queue, threading
def fill(loader, ready):
    for batch in loader:
        ready.put(batch)
ready = queue.Queue(2)
loader = make_dataloader(tokenizer=tokenizer, B=8, T=MAX_SEQ_LEN, split="train")
threading.Thread(target=fill, args=(loader, ready), daemon=True).start()
"""
PAIR = (
    "        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))",
    "        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))",
)


def test_another_clock_a_thread_pairs_keywords_and_a_hard_exit(try_script):
    """In minutes, the other way round, with the best checkpoint loaded at the end."""
    text = MODEL.replace(*PAIR).replace("return logits\n", "return logits, None\n") + BUILD
    text += (
        THREADED
        + """
import os
import numpy as np
np.random.seed(seed=1)
began = time.perf_counter()
MINUTES = 0.9 * (TIME_BUDGET / 60)
best, step = 99.0, 0
while True:
    x, y, epoch = ready.get()
    logits, loss = model(x, y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if loss.item() < best:
        best = loss.item()
        torch.save(model.state_dict(), "best.pt")
    step += 1
    if MINUTES <= (time.perf_counter() - began) / 60:
        break
model.load_state_dict(torch.load("best.pt"))
print(f"AFTER THE LOOP {evaluate_bpb(model=model, tokenizer=tokenizer, batch_size=8):.3f}")
sys.stdout.flush()
os._exit(0)
""".replace("import os\n", "import os, sys\n")
    )
    result = try_script(text)
    log = passed(result)
    assert "no warm-up" not in log
    assert "numpy.random.seed(1): the trial's seed" in log
    own = float(re.search(r"AFTER THE LOOP (\S+)", log).group(1))
    assert own == pytest.approx(result.score, rel=0.5)
    assert result.curve, "its loss is heard"
    assert result.detail == ""
    assert result.train_seconds > 1.0  # minutes taken for seconds would end it at once, or never


def test_where_the_data_of_a_thread_ends_first_the_script_does_not_wait_for_ever(
    try_script, unjudged
):
    text = (
        MODEL
        + BUILD
        + THREADED
        + """
while True:
    x, y, epoch = ready.get()
    model(x, y).backward()
    optimizer.step()
    optimizer.zero_grad()
"""
    )
    result = try_script(text, trial__budget_seconds=1.5)
    passed(result)
    assert "what it has after its loop did not run" in result.detail


@pytest.mark.parametrize(
    ("end", "reason", "told"),
    [
        ("import os; os._exit(0)", "", "without `evaluate_bpb.*call it after the"),
        ("model.head.bias.data.fill_(float('nan'))" + END, "nan", "loss was not finite"),
    ],
)
def test_an_end_that_spoils_the_training_is_told(try_script, unjudged, end, reason, told):
    text = SCRIPT.replace("# in the loop\n", "break\n").replace(END, end)
    result = try_script(text, trial__budget_seconds=60.0)
    assert result.outcome is Outcome.CRASH
    assert not reason or result.reason == reason
    assert re.search(told, result.detail), result.detail


def test_code_that_was_judged_is_not_tried_again(prepared, tmp_path):
    from autoresearch.config import load_config
    from autoresearch.sandbox import NoSandbox
    from autoresearch.tasks.gpt.executor import GptExecutor
    from autoresearch.types import TrialSpec

    config = load_config(None, prepared[0]).config
    executor = GptExecutor(config, prepared[1], NoSandbox(), scratch=tmp_path)
    spec, other = (TrialSpec({"train.py": text}, seed=1, budget_seconds=1) for text in (b"1", b"2"))
    assert float(executor._told(spec)["AUTORESEARCH_BYTES_PER_TOKEN"]) > 1
    executor._judged.add(executor._code_of(spec))
    assert CHECKED_VARIABLE in executor._told(spec)
    assert CHECKED_VARIABLE not in executor._told(other)


def test_a_script_is_tried_and_judged_inside_the_sandbox_of_this_machine(try_script):
    from autoresearch.errors import PrerequisiteError
    from autoresearch.sandbox import choose

    try:
        sandbox = choose()
    except PrerequisiteError:
        pytest.skip("no sandbox works here")
    saved = "torch.save(model.state_dict(), 'checkpoint.pt')\nopen('train.py').close()\n"
    result = try_script(SCRIPT.replace("val_bpb = ", saved + "val_bpb = "), sandbox=sandbox)
    assert "AFTER THE LOOP" in passed(result)
    assert result.sandbox == sandbox.name
