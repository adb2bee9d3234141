"""Runs a train.py written for karpathy's autoresearch, or a fork of it, as a trial.

Such a script is flat: it imports MAX_SEQ_LEN, TIME_BUDGET, Tokenizer, make_dataloader and evaluate_bpb from
`prepare`, builds its model, trains until its own clock says stop, and evaluates itself. The template `compat` puts a
`prepare.py` in the same folder that imports everything from here. Then:

- its loader is fed by the lab: rows of the lab's data, until the lab's clock has run out;
- before the first real batch the model and its optimizers are warmed up on random tokens at learning rate
  0, outside the budget, and put back;
- `evaluate_bpb`, or the end of the data if that comes first, submits the model; nothing after it runs;
- for judging the script is run up to `make_dataloader`, and the model it has made by then is taken.

Trade-offs:
    The script keeps its own clock for its schedule: it starts with the first real batch that it counts (upstream
    leaves out eleven), so its schedule may be a percent short of its end when the lab's clock runs out.
    Shards, tokenizer training and text are not there: `Tokenizer` knows the vocabulary only. `val_bpb`
    printed by the script does not exist; the judge's does. Packages that are downloaded when imported
    (`kernels`) are not there: the template's kernels.py answers `flash_attn_func` with `attend`.
"""

import contextlib
import copy
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

from autoresearch.trial.child.attention import attend
from autoresearch.trial.child.client import Trial


class _BuiltError(Exception):
    """The script has reached `make_dataloader`: its model is there."""


class _Lab:
    """What the shim knows in this process."""

    trial: Trial | None = None
    device = torch.device("cpu")
    vocab_size = 0
    max_seq_len = 0
    budget_seconds = 0.0
    has_started = False
    trained: nn.Module | None = None
    script: ClassVar[dict[str, Any]] = {}


def attach(script: dict[str, Any]) -> None:
    """Prepare a script's namespace; called by prepare.py with the globals of who imports it.

    Args:
        script: Globals of the script.

    Raises:
        SystemExit: in judging, once `build_model` is defined: the rest of the script is not to run.
    """
    if script.get("__name__") == "__main__":
        script["build_model"] = _build_skeleton
        _Lab.script = script
        _join()
    elif script.get("__name__") != "script":
        script["build_model"] = _builder(Path(script["__file__"]))
        raise SystemExit(0)


def _join() -> None:
    trial = _Lab.trial = Trial.join()
    _Lab.device = trial.device
    _Lab.vocab_size, _Lab.max_seq_len = trial.vocab_size, trial.max_seq_len
    _Lab.budget_seconds = trial.budget_seconds


def __getattr__(name: str) -> Any:
    if name == "DEVICE":
        return _Lab.device
    if name == "MAX_SEQ_LEN":
        return _Lab.max_seq_len
    if name == "TIME_BUDGET":
        return _Lab.budget_seconds
    raise AttributeError(
        f"`prepare.{name}` is not there in a trial: data and tokenizer are the lab's (`autoresearch prepare`)"
    )


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
    if _Lab.trial is None:
        raise _BuiltError
    if split != "train":
        raise RuntimeError("a trial sees training tokens only: the judge evaluates")
    return _batches(_Lab.trial, B, T, _Lab.script)


def evaluate_bpb(model: nn.Module, *_: Any, **__: Any) -> NoReturn:
    """Submit the model. The trial is over; nothing after it runs."""
    assert _Lab.trial is not None
    _Lab.trial.submit(_unwrapped(model))


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


# ---------------------------------------------------------------------------------- training


def _batches(
    trial: Trial, rows: int, length: int, script: dict[str, Any]
) -> Iterator[tuple[Tensor, Tensor, int]]:
    model = _model_of(script)
    if not _Lab.has_started:
        _Lab.trained = model
        _warm_up(script, model, trial.synthetic_batch(rows, length))
        trial.start()
        _Lab.has_started = True
    for x, y in trial.batches(rows, length):
        yield x, y, 1
    trial.submit(_unwrapped(model))


def _warm_up(script: dict[str, Any], model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """Compile forward, backward and optimizer steps on random tokens; leave no trace."""
    optimizers = [v for v in script.values() if isinstance(v, torch.optim.Optimizer)]
    autocast = next((v for v in script.values() if isinstance(v, torch.autocast)), None)
    saved = copy.deepcopy(model.state_dict())
    try:
        for _ in range(2):
            with autocast or contextlib.nullcontext():
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
        sys.stderr.write(f"no warm-up before the clock starts: {type(exc).__name__}: {exc}\n")
    model.load_state_dict(saved)
    model.zero_grad(set_to_none=True)
    for optimizer in optimizers:
        optimizer.state.clear()


# ---------------------------------------------------------------------------------- building


def _model_of(script: dict[str, Any]) -> nn.Module:
    """Return the model a script has made: the global `model`, else the largest module.

    Raises:
        RuntimeError: there is none.
    """
    found = [v for v in script.values() if isinstance(v, nn.Module)]
    named = script.get("model")
    if isinstance(named, nn.Module):
        return named
    if not found:
        raise RuntimeError("the script must build its model before it calls `make_dataloader`")
    return max(found, key=lambda m: sum(p.numel() for p in m.parameters()))


def _unwrapped(model: nn.Module) -> nn.Module:
    inner = getattr(model, "_orig_mod", model)
    assert isinstance(inner, nn.Module)
    return inner


def _build_skeleton(vocab_size: int, max_seq_len: int, device: Any) -> nn.Module:  # noqa: ARG001
    """Return a module with the keys and shapes of the model in training, without its memory."""
    assert _Lab.trained is not None
    root = nn.Module()
    for name, value in _unwrapped(_Lab.trained).state_dict().items():
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


def _builder(path: Path) -> Any:
    def build_model(vocab_size: int, max_seq_len: int, device: torch.device | str) -> nn.Module:
        """Run the script up to `make_dataloader` and return its model."""
        _Lab.vocab_size, _Lab.max_seq_len, _Lab.budget_seconds = vocab_size, max_seq_len, 300.0
        _Lab.device = torch.device(device)
        module = types.ModuleType("script")
        module.__file__ = str(path)
        sys.modules["script"] = module
        sys.modules.pop("prepare", None)
        with _no_compile(), contextlib.suppress(_BuiltError):
            exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102
        model = _unwrapped(_model_of(module.__dict__)).to(device)
        autocast = next((v for v in vars(module).values() if isinstance(v, torch.autocast)), None)
        if autocast is not None:  # the script puts it around its calls, judging does not
            plain = model.forward

            def forward(idx: Tensor) -> Any:
                with autocast:
                    return plain(idx)

            model.forward = forward
        return model

    return build_model


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
