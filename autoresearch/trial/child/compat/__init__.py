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

import inspect
import opcode
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from autoresearch.trial import channel as wire
from autoresearch.trial.child.attention import attend
from autoresearch.trial.child.compat import refusals
from autoresearch.trial.child.compat.building import (
    BuiltError,
    build_skeleton,
    builder,
    raise_in_main,
    unwrapped,
    variables_seen,
)
from autoresearch.trial.child.compat.building import (
    check as check,
)
from autoresearch.trial.child.compat.clock import Budget
from autoresearch.trial.child.compat.lab import Lab
from autoresearch.trial.child.compat.training import batches, estimate_bpb, join
from autoresearch.trial.child.compat.training import finish as finish


def attach(script: dict[str, Any]) -> None:
    """Prepare a script's namespace; called by prepare.py with the globals of who imports it.

    Args:
        script: Globals of the script.

    Raises:
        SystemExit: in judging, once `build_model` is defined: the rest of the script is not to run.
    """
    if Lab.is_building:
        return
    if script.get("__name__") == "__main__":
        script["build_model"] = build_skeleton
        join(Path(script["__file__"]))
        return
    script["build_model"] = builder(script["__file__"])
    if wire.FD_VARIABLE in os.environ:
        raise SystemExit(0)
    raise SystemExit(
        "a script of upstream's shape trains when it is imported\n\nhint: `from autoresearch.trial.child.compat"
        " import builder`, then `builder('train.py')(vocab_size, max_seq_len, 'cpu')` is its model"
    )


def __getattr__(name: str) -> Any:
    if name == "DEVICE":
        return Lab.device
    if name == "MAX_SEQ_LEN":
        return Lab.max_seq_len
    if name == "TIME_BUDGET":
        return Budget(Lab.budget_seconds)
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
    return Lab.device


class Tokenizer:
    """The vocabulary, without its text: ids 0 .. V - 2, the last id begins a document."""

    @classmethod
    def from_directory(cls, *_: Any, **__: Any) -> "Tokenizer":
        """Return the lab's tokenizer."""
        return cls()

    def get_vocab_size(self) -> int:
        """Return the number of token ids."""
        return Lab.vocab_size

    def get_bos_token_id(self) -> int:
        """Return the id that begins a document."""
        return Lab.vocab_size - 1

    bos_token_id = property(get_bos_token_id)

    def encode(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse.

        Raises:
            RuntimeError: always; a trial gets tokens, never text.
        """
        raise RuntimeError(refusals.TEXT)

    decode = encode


def get_token_bytes(*_: Any, **__: Any) -> NoReturn:
    """Refuse.

    Raises:
        RuntimeError: always; the judge counts bytes.
    """
    raise RuntimeError(refusals.BYTES)


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
        raise RuntimeError(refusals.OTHER_SPLIT)
    return batches(B, T)


def evaluate_bpb(model: nn.Module, *_: Any, **__: Any) -> float:
    """Return an estimate from training text; the model of the last call is submitted when the script ends."""
    if Lab.is_building:
        raise_in_main(BuiltError(variables_seen()))
    assert Lab.trial is not None
    began_at = time.monotonic()
    Lab.evaluated = model
    estimate = estimate_bpb(Lab.trial, unwrapped(model))
    Lab.slack += time.monotonic() - began_at
    return estimate


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
