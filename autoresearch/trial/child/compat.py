"""Runs a train.py written for karpathy's autoresearch, or a fork of it, as a trial.

Such a script is flat, or a `main()`: it imports MAX_SEQ_LEN, TIME_BUDGET, Tokenizer, make_dataloader and evaluate_bpb
from `prepare`, builds its model, trains until its own clock says stop, and evaluates itself. The template `compat` puts
a `prepare.py` in the same folder that imports everything from here. Then:

- its loader is fed by the lab: rows of the lab's data, until the lab's clock has run out;
- before the first real batch, outside the budget, the model is tried as judging will run it, in a process like that of
  judging, and warmed up with its optimizers on random tokens at learning rate 0, then put back;
- what it divides by TIME_BUDGET, or compares with it, is answered by the lab's clock, with room for its last step;
- `evaluate_bpb` returns an estimate from training text. The model of its last call is submitted when the script ends;
- for judging the script is run up to its first batch, and the model it has made by then is taken;
- a seed that it sets is shifted by the seed of the trial, so that trials differ.

Trade-offs:
    Shards, tokenizer training and text are not there: `Tokenizer` knows the vocabulary only. Packages that are
    downloaded when imported (`kernels`) are not there: the template's kernels.py answers `flash_attn_func` by `attend`.
    Where the data ends before the script does, the model is submitted there.
"""

import contextlib
import copy
import inspect
import itertools
import json
import math
import opcode
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from autoresearch.trial import channel as wire
from autoresearch.trial.child.attention import attend
from autoresearch.trial.child.client import Trial
from autoresearch.trial.child.script import BYTES_VARIABLE, CHECKED_VARIABLE, command
from autoresearch.trial.child.weights import encode_weights

LOAD_VARIABLE = "AUTORESEARCH_LOAD"
_ESTIMATE_TOKENS = 16_384
_UNCOUNTED_STEPS = 12
"""One more than the steps that a script of upstream's shape does not time."""
_SPARE_STEPS = 1.5


class _BuiltError(BaseException):
    """The script asks for its first batch: its model is there."""

    def __init__(self, variables: dict[str, Any]) -> None:
        super().__init__()
        self.variables = variables


class _Lab:
    """What the shim knows in this process."""

    trial: Trial | None = None
    file = "train.py"
    root = Path()
    device = torch.device("cpu")
    vocab_size = 0
    max_seq_len = 0
    budget_seconds = 0.0
    is_building = False
    joined_at = 0.0
    started_at = math.inf
    trained: nn.Module | None = None
    evaluated: nn.Module | None = None
    recent: ClassVar[deque[tuple[Tensor, Tensor]]] = deque(maxlen=4)
    steps: ClassVar[deque[float]] = deque(maxlen=6)
    """When the last optimizer steps ended."""
    num_steps = 0
    counted: object = None
    """The optimizer whose steps count: a script may have several."""
    slack = 0.0
    """Seconds by which the script's clock may be behind the lab's."""


def attach(script: dict[str, Any]) -> None:
    """Prepare a script's namespace; called by prepare.py with the globals of who imports it.

    Args:
        script: Globals of the script.

    Raises:
        SystemExit: in judging, once `build_model` is defined: the rest of the script is not to run.
    """
    if _Lab.is_building:
        return
    if script.get("__name__") == "__main__":
        script["build_model"] = _build_skeleton
        _join(Path(script["__file__"]))
        return
    script["build_model"] = builder(script["__file__"])
    if wire.FD_VARIABLE in os.environ:
        raise SystemExit(0)
    raise SystemExit(
        "a script of upstream's shape trains when it is imported\n\nhint: `from autoresearch.trial.child.compat"
        " import builder`, then `builder('train.py')(vocab_size, max_seq_len, 'cpu')` is its model"
    )


def _join(path: Path) -> None:
    _Lab.joined_at = time.monotonic()
    trial = _Lab.trial = Trial.join()
    _Lab.file, _Lab.device = path.name, trial.device
    _Lab.vocab_size, _Lab.max_seq_len = trial.vocab_size, trial.max_seq_len
    _Lab.budget_seconds = trial.budget_seconds
    _enter_writable()
    _shift_seeds(trial.seed)


def _enter_writable() -> Path:
    """Work in a folder that can be written, with links to the files of the snapshot: many scripts save checkpoints."""
    _Lab.root = Path.cwd()
    folder = Path(tempfile.mkdtemp(prefix="work-"))
    for path in _Lab.root.iterdir():
        (folder / path.name).symlink_to(path)
    os.chdir(folder)
    return folder


def _shift_seeds(shift: int) -> None:
    """Add the seed of the trial to each seed the script sets: with one seed, the noise of its start is not measured."""

    def shifted(function: Callable[..., Any], name: str, modulus: int) -> Callable[..., Any]:
        def seed(value: Any = None, *args: Any, **options: Any) -> Any:
            if isinstance(value, int | np.integer):
                _say_once(f"{name}({value}): the trial's seed, {shift}, is added")
                value = (int(value) + shift) % modulus
            return function(value, *args, **options)

        return seed

    for owner, name, modulus in (
        (torch, "manual_seed", 2**63),
        (torch.cuda, "manual_seed", 2**63),
        (torch.cuda, "manual_seed_all", 2**63),
        (np.random, "seed", 2**32),
        (random, "seed", 2**63),
    ):
        label = f"{owner.__name__}.{name}"
        setattr(owner, name, shifted(getattr(owner, name), label, modulus))


_said: set[str] = set()


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        sys.stderr.write(f"autoresearch: {text}\n")


# ---------------------------------------------------------------------------------- names of prepare


def __getattr__(name: str) -> Any:
    if name == "DEVICE":
        return _Lab.device
    if name == "MAX_SEQ_LEN":
        return _Lab.max_seq_len
    if name == "TIME_BUDGET":
        return _Budget(_Lab.budget_seconds)
    raise AttributeError(_missing(name))


def lookup(name: str) -> NoReturn:
    """Explain a name that `prepare` has upstream and not here; its `__getattr__`.

    Raises:
        ImportError: for `from prepare import NAME`, which would drop the words of an AttributeError.
        AttributeError: for `prepare.NAME`.
    """
    frame = inspect.currentframe()
    for _ in range(2):  # this function, and the one of prepare.py
        frame = frame and frame.f_back
    assert frame is not None
    is_import = opcode.opname[frame.f_code.co_code[frame.f_lasti]] == "IMPORT_FROM"
    if is_import and not name.startswith("__"):
        raise ImportError(_missing(name))
    raise AttributeError(_missing(name))


def _missing(name: str) -> str:
    return (
        f"`prepare.{name}` is not there in a trial: data and tokenizer are the lab's (`autoresearch prepare`)."
        " Take the name out of train.py, or define it at the end of prepare.py"
    )


def get_device() -> torch.device:
    """Return where to train."""
    return _Lab.device


class Tokenizer:
    """The vocabulary, without its text: ids 0 .. V - 2, the last id begins a document."""

    @classmethod
    def from_directory(cls, *_: Any, **__: Any) -> "Tokenizer":
        """Return the lab's tokenizer."""
        return cls()

    def get_vocab_size(self) -> int:
        """Return the number of token ids."""
        return _Lab.vocab_size

    def get_bos_token_id(self) -> int:
        """Return the id that begins a document."""
        return _Lab.vocab_size - 1

    def encode(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse.

        Raises:
            RuntimeError: always; a trial gets tokens, never text.
        """
        raise RuntimeError("a trial has no text to encode: batches come as tokens from the lab")

    decode = encode


def get_token_bytes(*_: Any, **__: Any) -> NoReturn:
    """Refuse.

    Raises:
        RuntimeError: always; the judge counts bytes.
    """
    raise RuntimeError("a trial does not count bytes: the judge computes val_bpb")


def make_dataloader(
    tokenizer: Tokenizer,  # noqa: ARG001 - upstream's signature
    B: int,  # noqa: N803
    T: int,  # noqa: N803
    split: str = "train",
    *_: Any,
    **__: Any,
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Return an iterator over (x, y, epoch): int64 (B, T) on the device, epoch always 1.

    Raises:
        RuntimeError: another split than `train` is asked for.
    """
    if split != "train":
        raise RuntimeError("a trial sees training tokens only: the judge evaluates")
    return _batches(B, T)


def evaluate_bpb(model: nn.Module, *_: Any, **__: Any) -> float:
    """Return an estimate from training text; the model of the last call is submitted when the script ends."""
    if _Lab.is_building:
        raise _BuiltError(_variables())
    assert _Lab.trial is not None
    began_at = time.monotonic()
    _Lab.evaluated = model
    estimate = _estimate(_Lab.trial, _plain(model))
    _Lab.slack += time.monotonic() - began_at
    return estimate


def _estimate(trial: Trial, model: nn.Module) -> float:
    """Return bits per byte of the latest batches, in eager mode, so that nothing is compiled within the budget."""
    batches = list(_Lab.recent) or [trial.synthetic_batch(1, _Lab.max_seq_len)]
    batches = batches[-1:] if _spent() >= 1.0 else batches
    was_training = model.training
    losses = []
    try:
        model.eval()
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            for x, y in batches:
                rows = max(1, _ESTIMATE_TOKENS // x.size(1))
                losses.append(float(model(x[:rows], y[:rows])))
    except Exception as exc:  # noqa: BLE001 - an estimate is worth no trial
        _say_once(f"evaluate_bpb gives no estimate: {type(exc).__name__}: {exc}")
        return math.nan
    finally:
        model.train(was_training)
    _say_once("evaluate_bpb estimates from training text; the judge computes val_bpb")
    bytes_per_token = float(os.environ.get(BYTES_VARIABLE) or 1.0)
    return sum(losses) / len(losses) / math.log(2) / bytes_per_token


def flash_attn_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = True,
    window_size: tuple[int, int] = (-1, -1),
    **_: Any,
) -> Tensor:
    """Return causal attention with FlashAttention's arguments, by `attend`; all (B, T, H, D).

    Raises:
        ValueError: the attention is not causal.
    """
    if not causal:
        raise ValueError("only causal attention can be judged")
    if k.size(2) != q.size(2):
        k, v = (t.repeat_interleave(q.size(2) // t.size(2), dim=2) for t in (k, v))
    window = window_size[0] if 0 < window_size[0] < q.size(1) else 0
    return attend(q, k, v.to(q.dtype), window)


# ---------------------------------------------------------------------------------- the clock


def _spent() -> float:
    """Return the share of the budget that is spent; 1 while one and a half steps still fit."""
    elapsed = time.monotonic() - _Lab.started_at
    times = list(_Lab.steps)
    seconds = [b - a for a, b in itertools.pairwise(times)]
    reserve = _SPARE_STEPS * statistics.median(seconds) if seconds else 0.0
    return max(0.0, elapsed) / max(_Lab.budget_seconds - reserve, 1e-9)


class _Budget(float):
    """TIME_BUDGET: seconds, and the lab's clock where a script's own is divided by it or compared with it.

    Upstream's clock leaves out eleven steps, others start before the warm-up: a number of seconds that may be such a
    clock is taken for the lab's, any other is what it is.
    """

    def _on_lab_clock(self, seconds: Any) -> Any:
        elapsed = time.monotonic() - _Lab.started_at
        if not isinstance(seconds, int | float) or elapsed < 0:
            return seconds
        behind = elapsed - seconds
        startup = _Lab.started_at - _Lab.joined_at
        uncounted = elapsed if _Lab.num_steps < _UNCOUNTED_STEPS else 0.0
        if -startup - 0.5 <= behind <= uncounted + _Lab.slack + 0.1 * float(self):
            return _spent() * float(self)
        return seconds

    def __rtruediv__(self, seconds: Any) -> Any:
        return self._on_lab_clock(seconds) / float(self)

    def __rsub__(self, seconds: Any) -> Any:
        return self._on_lab_clock(seconds) - float(self)

    def __sub__(self, seconds: Any) -> Any:
        return float(self) - self._on_lab_clock(seconds)

    def __le__(self, seconds: Any) -> bool:
        return bool(float(self) <= self._on_lab_clock(seconds))

    def __lt__(self, seconds: Any) -> bool:
        return bool(float(self) < self._on_lab_clock(seconds))

    def __ge__(self, seconds: Any) -> bool:
        return bool(float(self) >= self._on_lab_clock(seconds))

    def __gt__(self, seconds: Any) -> bool:
        return bool(float(self) > self._on_lab_clock(seconds))


def _count_step(optimizer: object, *_: Any) -> None:
    if _Lab.counted is None:
        _Lab.counted = optimizer
    if optimizer is not _Lab.counted or math.isinf(_Lab.started_at):
        return
    _Lab.num_steps += 1
    _Lab.steps.append(time.monotonic())
    if _Lab.num_steps == _UNCOUNTED_STEPS:
        _Lab.slack += _Lab.steps[-1] - _Lab.started_at


# ---------------------------------------------------------------------------------- training


def _batches(rows: int, length: int) -> Iterator[tuple[Tensor, Tensor, int]]:
    variables = _variables()
    if _Lab.is_building:
        raise _BuiltError(variables)
    trial = _Lab.trial
    assert trial is not None
    if math.isinf(_Lab.started_at):
        _begin(trial, variables, rows, length)
    for x, y in trial.batches(rows, length):
        _Lab.recent.append((x, y))
        yield x, y, 1
    assert _Lab.trained is not None
    trial.note = "the budget ended before the script did: what it has after its loop did not run"
    _say_once(trial.note)
    trial.submit(_plain(_Lab.trained))


def _begin(trial: Trial, variables: dict[str, Any], rows: int, length: int) -> None:
    """Try the model as judging will, warm it up, start the clock."""
    model = _Lab.trained = _model_of(variables)
    plain = _plain(model)
    _try_judging(trial, plain)
    wrappers = (v for v in variables.values() if isinstance(v, nn.Module) and v is not plain)
    called = next((v for v in wrappers if _plain(v) is plain), model)
    _warm_up(variables, called, trial.synthetic_batch(rows, length))

    def hear(loss: Any) -> Any:
        if isinstance(loss, Tensor) and loss.numel() == 1 and loss.requires_grad:
            trial.log(loss=loss)
        return loss

    compiled = called._compiled_call_impl  # of `model.compile()`, which would compile a hook too
    if compiled is None:
        called.register_forward_hook(lambda _, __, loss: hear(loss))
    else:
        called._compiled_call_impl = lambda *args, **names: hear(compiled(*args, **names))
    register_optimizer_step_post_hook(_count_step)
    trial.start()
    _Lab.started_at = time.monotonic()


def finish(*, has_failed: bool = False) -> None:
    """Submit what the script evaluated last, now that it has ended.

    Args:
        has_failed: It ended by an exception: only what was evaluated at the end of the budget counts.

    Raises:
        SystemExit: it evaluated nothing.
    """
    trial = _Lab.trial
    if trial is None:
        return
    trial.flush()
    if _Lab.evaluated is not None and not (has_failed and _spent() < 1.0):
        trial.submit(_plain(_Lab.evaluated))
    if not has_failed:
        missing = "`evaluate_bpb(model, ...)`, which names the model to judge"
        if math.isinf(_Lab.started_at):
            missing = "taking a batch from `make_dataloader(...)`: nothing was trained"
        raise SystemExit(f"it ended without {missing}")


def _warm_up(variables: Mapping[str, Any], model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """Compile forward, backward and optimizer steps on random tokens; leave no trace."""
    values: list[Any] = []
    for value in variables.values():
        parts = value.values() if isinstance(value, dict) else value
        values += parts if isinstance(value, list | tuple | dict) else [value]
    optimizers = list({id(v): v for v in values if isinstance(v, torch.optim.Optimizer)}.values())
    saved = copy.deepcopy(model.state_dict())
    try:
        for _ in range(2):
            with _autocast_of(variables) or contextlib.nullcontext():
                loss = model(*batch)
            loss.backward()
            for optimizer in optimizers:
                kept = [dict(group) for group in optimizer.param_groups]
                for group in optimizer.param_groups:
                    group["lr"] = 0.0
                optimizer.step()
                for group, old in zip(optimizer.param_groups, kept, strict=True):
                    group["lr"] = old["lr"]
    except torch.OutOfMemoryError:
        raise
    except Exception as exc:  # noqa: BLE001 - a script of another kind compiles inside its budget
        _say_once(f"no warm-up before the clock starts: {type(exc).__name__}: {exc}")
    model.load_state_dict(saved)
    model.zero_grad(set_to_none=True)
    for optimizer in optimizers:
        optimizer.state.clear()


# ---------------------------------------------------------------------------------- judging, tried early


def _try_judging(trial: Trial, model: nn.Module) -> None:
    """Build, load and run the model as judging will, with the weights it has now.

    Raises:
        RuntimeError: judging would fail after the budget; says by what.
    """
    if os.environ.get(CHECKED_VARIABLE):
        return
    header, tensors = encode_weights(model.state_dict())
    parts = (t.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8) for t in tensors)
    fd = wire.sealed_file("weights", [header, *(p.numpy() for p in parts if p.numel())])
    load = {
        "device": trial.device.type,
        "vocab_size": trial.vocab_size,
        "max_seq_len": trial.max_seq_len,
        "context": trial.max_seq_len,
        "seed": trial.seed,
        "batch_rows": 1,
        "fd": fd,
    }
    try:
        done = subprocess.run(
            command("check", _Lab.file),
            env={**os.environ, LOAD_VARIABLE: json.dumps(load), wire.FD_VARIABLE: "none"},
            pass_fds=(fd,),
            cwd=_Lab.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    finally:
        os.close(fd)
    if done.returncode == 0:
        return
    lines = done.stderr.strip().splitlines()
    why = lines[-1] if lines else f"exit code {done.returncode}"
    text = (_Lab.root / _Lab.file).read_text("utf-8", "replace")
    if "dtype" in why and "autocast(" in text:
        why += "; make the autocast once, before the loop, as `autocast_ctx = torch.amp.autocast(...)`: judging uses it"
    raise RuntimeError(f"judging would fail: {why}")


def check(file: str) -> None:
    """Be the process that `_try_judging` starts: do what a judging process does before it gets rows.

    Raises:
        Exception: whatever would fail in judging.
    """
    from autoresearch.trial.child.judge_worker import Server

    load = json.loads(os.environ[LOAD_VARIABLE])
    Server("claim", file, load, int(load["fd"]))


# ---------------------------------------------------------------------------------- building


def _variables() -> dict[str, Any]:
    """Return what the code that asks can see: globals of the script, locals of its functions, attributes of `self`."""
    frame = inspect.currentframe()
    found: list[dict[str, Any]] = []
    while frame is not None:
        if frame.f_globals.get("__name__") != __name__:
            local = dict(frame.f_locals)
            owner = local.get("self")
            if owner is not None and not isinstance(owner, nn.Module):
                found.append(dict(getattr(owner, "__dict__", {})))
            found.append(local)
            if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__main__":
                break
        frame = frame.f_back
    return {name: value for scope in reversed(found) for name, value in scope.items()}


def _model_of(variables: Mapping[str, Any]) -> nn.Module:
    """Return the model a script has made: the variable `model`, else the largest module.

    Raises:
        RuntimeError: there is none.
    """
    named = variables.get("model")
    if isinstance(named, nn.Module):
        return named
    found = [v for v in variables.values() if isinstance(v, nn.Module)]
    if not found:
        raise RuntimeError("the script must build its model before it takes its first batch")
    return max(found, key=lambda m: sum(p.numel() for p in m.parameters()))


def _autocast_of(variables: Mapping[str, Any]) -> torch.autocast | None:
    return next((v for v in variables.values() if isinstance(v, torch.autocast)), None)


def _plain(model: nn.Module) -> nn.Module:
    """Return a model without the wrappers of torch.compile, of averaging and of parallel training."""
    while not isinstance(model, torch.jit.ScriptModule):
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(
            model, torch.optim.swa_utils.AveragedModel | nn.parallel.DistributedDataParallel
        ):
            inner = model.module
        if not isinstance(inner, nn.Module):
            break
        model = inner
    return model


def _build_skeleton(vocab_size: int, max_seq_len: int, device: Any) -> nn.Module:  # noqa: ARG001
    """Return a module with the keys and shapes of the model in training, without its memory."""
    assert _Lab.trained is not None
    root = nn.Module()
    for name, value in _plain(_Lab.trained).state_dict().items():
        *path, last = name.split(".")
        owner = root
        for part in path:
            if part not in dict(owner.named_children()):
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        owner.register_parameter(
            last, nn.Parameter(torch.empty_like(value, device="meta"), requires_grad=False)
        )
    return root


def builder(file: str | Path) -> Callable[[int, int, torch.device | str], nn.Module]:
    """Return `build_model(vocab_size, max_seq_len, device)` of a script of upstream's shape."""
    path = Path(file).resolve()

    def build_model(vocab_size: int, max_seq_len: int, device: torch.device | str) -> nn.Module:
        """Run the script up to its first batch and return its model."""
        _Lab.vocab_size, _Lab.max_seq_len, _Lab.budget_seconds = vocab_size, max_seq_len, 300.0
        _Lab.device = torch.device(device)
        variables = _run_to_first_batch(path)
        model = _plain(_model_of(variables)).to(device)
        autocast = _autocast_of(variables)
        if autocast is not None:  # the script puts it around its calls, judging does not
            plain = model.forward

            def forward(idx: Tensor) -> Any:
                with autocast:
                    return plain(idx)

            model.forward = forward
        return model

    return build_model


def _run_to_first_batch(path: Path) -> dict[str, Any]:
    """Execute a script as `__main__` until it asks for data, and return its variables."""
    module = types.ModuleType("__main__")
    module.__file__ = str(path)
    kept, here = sys.modules.get("__main__"), Path.cwd()
    sys.modules["__main__"] = module
    sys.modules.pop("prepare", None)
    _Lab.is_building = True
    scratch = _enter_writable()
    try:
        with _no_compile():
            exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102
    except _BuiltError as exc:
        return exc.variables
    finally:
        _Lab.is_building = False
        os.chdir(here)
        shutil.rmtree(scratch, ignore_errors=True)
        if kept is not None:
            sys.modules["__main__"] = kept
    return vars(module)


@contextlib.contextmanager
def _no_compile() -> Iterator[None]:
    """Let `torch.compile` give back what it was given: judging needs no speed."""
    kept = torch.compile

    def identity(model: Any = None, **_: Any) -> Any:
        return model if model is not None else (lambda function: function)

    torch.compile = identity
    try:
        yield
    finally:
        torch.compile = kept
