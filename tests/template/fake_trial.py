"""A stand-in for the lab: loads a template's train.py with a Trial whose clock counts batches."""

import importlib.util
import sys
import types
from pathlib import Path

import torch

from autoresearch import trial as real

TEMPLATE = Path(__file__).resolve().parents[2] / "templates" / "gpt" / "train.py"


class FakeTrial:
    """The contract of `Trial` on patterned tokens; progress is the share of `num_batches` served."""

    def __init__(self, num_batches=20, vocab_size=64, max_seq_len=64, seed=0, device="cpu"):
        self.num_batches = num_batches
        self.vocab_size = vocab_size
        self.max_seq_len = max_seq_len
        self.budget_seconds = 1.0
        self.seed = seed
        self.device = device
        self.served = 0
        self.has_started = False
        self.logged = []
        self.model = None
        self.generator = torch.Generator().manual_seed(seed)

    def synthetic_batch(self, B, T):
        rows = torch.randint(self.vocab_size, (B, T + 1), generator=self.generator)
        return rows[:, :-1].to(self.device), rows[:, 1:].to(self.device)

    def start(self):
        self.has_started = True

    @property
    def progress(self):
        return self.served / self.num_batches

    def batches(self, B, T):
        assert self.has_started
        while self.served < self.num_batches:
            self.served += 1
            start = torch.randint(self.vocab_size, (B, 1), generator=self.generator)
            rows = (start + 3 * torch.arange(T + 1)) % self.vocab_size
            yield rows[:, :-1].to(self.device), rows[:, 1:].to(self.device)

    def log(self, **values):
        self.logged.append({k: float(v) for k, v in values.items()})

    def submit(self, model):
        self.model = model


TINY = {
    "DEPTH": 2,
    "WIDTH": 64,
    "NUM_HEADS": 2,
    "HEAD_SIZE": 32,
    "SHORT_WINDOW": 0,
    "CONTEXT": 64,
    "ROWS": 4,
    "ACCUMULATE": 1,
}


def load(trial, path=TEMPLATE, **constants):
    """Import a train.py whose `Trial.join()` gives `trial`, with constants set."""
    package = types.ModuleType("autoresearch.trial")
    package.attend = real.attend
    package.is_out_of_memory = real.is_out_of_memory
    package.Trial = types.SimpleNamespace(join=lambda: trial)
    spec = importlib.util.spec_from_file_location("train", path)
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get("autoresearch.trial")
    sys.modules["autoresearch.trial"] = package
    try:
        spec.loader.exec_module(module)
    finally:
        if before is None:
            del sys.modules["autoresearch.trial"]
        else:
            sys.modules["autoresearch.trial"] = before
    for name, value in {**TINY, **constants}.items():
        assert hasattr(module, name), name
        setattr(module, name, value)
    return module
