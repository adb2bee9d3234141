"""The training of a script of upstream's shape: from its first batch to what it evaluated last."""

import contextlib
import copy
import math
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from autoresearch.trial.child.client import Trial
from autoresearch.trial.child.compat.building import (
    BuiltError,
    autocast_of,
    is_main_thread,
    listen,
    loss_in,
    model_of,
    raise_in_main,
    try_judging,
    unwrapped,
    variables_seen,
)
from autoresearch.trial.child.compat.clock import count_step, spent
from autoresearch.trial.child.compat.lab import Lab, enter_writable, say_once
from autoresearch.trial.child.compat.refusals import foresee
from autoresearch.trial.child.script import BYTES_VARIABLE

_ESTIMATE_TOKENS = 16_384
_GRACE_SECONDS = 0.3
"""For a script to end by itself once a thread of its loader has met the end of the data."""
_leave, _OWNER = os._exit, os.getpid()


def join(path: Path) -> None:
    """Begin the trial of the script at `path`."""
    Lab.joined_at = time.monotonic()
    trial = Lab.trial = Trial.join()
    Lab.file, Lab.device = path.name, trial.device
    Lab.vocab_size, Lab.max_seq_len = trial.vocab_size, trial.max_seq_len
    Lab.budget_seconds = trial.budget_seconds
    foresee(path)
    enter_writable()
    listen()
    _shift_seeds(trial.seed)
    os._exit = _end


def _end(status: int) -> NoReturn:
    """Be `os._exit` for the script: what it evaluated is still to be submitted."""
    if os.getpid() != _OWNER or not is_main_thread():
        _leave(status)
    raise SystemExit(status)


def _shift_seeds(shift: int) -> None:
    """Add the seed of the trial to each seed the script sets: with one seed, the noise of its start is not measured."""

    def shifted(function: Callable[..., Any], name: str, modulus: int) -> Callable[..., Any]:
        def seed(*args: Any, **options: Any) -> Any:
            value, *more = [*args, *options.values()] or [None]
            if isinstance(value, int | np.integer):
                say_once(f"{name}({value}): the trial's seed, {shift}, is added")
                value = (int(value) + shift) % modulus
            return function(value, *more)

        return seed

    for owner, name, modulus in (
        (torch, "manual_seed", 2**63),
        (torch.cuda, "manual_seed", 2**63),
        (torch.cuda, "manual_seed_all", 2**63),
        (np.random, "seed", 2**32),
        (np.random, "default_rng", 2**63),
        (random, "seed", 2**63),
    ):
        label = f"{owner.__name__}.{name}"
        setattr(owner, name, shifted(getattr(owner, name), label, modulus))


def batches(rows: int, length: int) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Yield batches until the budget is spent, then submit; before the first one the clock starts."""
    variables = variables_seen()
    if Lab.is_building:
        raise_in_main(BuiltError(variables))
    trial = Lab.trial
    assert trial is not None
    if math.isinf(Lab.started_at):
        try:
            _begin(trial, variables, rows, length)
        except Exception as exc:  # noqa: BLE001 - in a thread only it would end, and the script wait for ever
            raise_in_main(exc)
    for x, y in trial.batches(rows, length):
        Lab.recent.append((x, y))
        yield x, y, 1
    if not is_main_thread():
        time.sleep(_GRACE_SECONDS)
    trial.note = "the budget ended before the script did: what it has after its loop did not run"
    say_once(trial.note)
    Lab.is_over = True
    if not is_main_thread():
        raise_in_main(SystemExit(0))
    finish()


def _begin(trial: Trial, variables: dict[str, Any], rows: int, length: int) -> None:
    """Try the model as judging will, warm it up, start the clock."""
    model = Lab.trained = model_of(variables)
    plain = unwrapped(model)
    try_judging(trial, plain)
    wrappers = (v for v in variables.values() if isinstance(v, nn.Module) and v is not plain)
    called = next((v for v in wrappers if unwrapped(v) is plain), model)
    warm_up(variables, called, trial.synthetic_batch(rows, length))

    def hear(output: Any) -> Any:
        if not torch.compiler.is_compiling():
            loss = loss_in(output)
            if isinstance(loss, Tensor) and loss.numel() == 1 and loss.requires_grad:
                trial.log(loss=loss)
        return output

    compiled = called._compiled_call_impl  # noqa: SLF001 - of `model.compile()`, which would compile a hook too
    if compiled is None:
        called.register_forward_hook(lambda _, __, output: hear(output))
    else:
        called._compiled_call_impl = lambda *args, **names: hear(compiled(*args, **names))  # noqa: SLF001
    register_optimizer_step_post_hook(count_step)
    trial.start()
    Lab.started_at = time.monotonic()


def warm_up(variables: Mapping[str, Any], model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """Compile forward, backward and optimizer steps on random tokens; leave no trace."""
    values: list[Any] = []
    for value in variables.values():
        parts = value.values() if isinstance(value, dict) else value
        values += parts if isinstance(value, list | tuple | dict) else [value]
    optimizers = list({id(v): v for v in values if isinstance(v, torch.optim.Optimizer)}.values())
    saved = copy.deepcopy(model.state_dict())
    try:
        for _ in range(2):
            with autocast_of(variables) or contextlib.nullcontext():
                loss = loss_in(model(*batch))
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
        say_once(f"no warm-up before the clock starts: {type(exc).__name__}: {exc}")
    model.load_state_dict(saved)
    model.zero_grad(set_to_none=True)
    for optimizer in optimizers:
        optimizer.state.clear()


def estimate_bpb(trial: Trial, model: nn.Module) -> float:
    """Return bits per byte of the latest batches, in eager mode, so that nothing is compiled within the budget."""
    batches = list(Lab.recent) or [trial.synthetic_batch(1, Lab.max_seq_len)]
    batches = batches[-1:] if spent() >= 1.0 else batches
    was_training = model.training
    losses = []
    try:
        model.eval()
        # Without its compiler, which would be imported here and now, there is nothing to compile.
        has_compiler = "torch._dynamo" in sys.modules
        eager = (
            torch.compiler.set_stance("force_eager") if has_compiler else contextlib.nullcontext()
        )
        with torch.no_grad(), eager:
            for x, y in batches:
                rows = max(1, _ESTIMATE_TOKENS // x.size(1))
                losses.append(float(loss_in(model(x[:rows], y[:rows]))))
    except Exception as exc:  # noqa: BLE001 - an estimate is worth no trial
        say_once(f"evaluate_bpb gives no estimate: {type(exc).__name__}: {exc}")
        return math.nan
    finally:
        model.train(was_training)
    if not all(map(math.isfinite, losses)):
        trial.log(loss=math.nan)
    say_once("evaluate_bpb estimates from training text; the judge computes val_bpb")
    bytes_per_token = float(os.environ.get(BYTES_VARIABLE) or 1.0)
    return sum(losses) / len(losses) / math.log(2) / bytes_per_token


def finish(*, has_failed: bool = False) -> None:
    """Submit what the script evaluated last, now that it has ended.

    Args:
        has_failed: It ended by an exception: only what was evaluated at the end of the budget counts.

    Raises:
        SystemExit: it evaluated nothing.
    """
    trial = Lab.trial
    if trial is None:
        return
    os._exit = _leave
    trial.flush()
    model = Lab.trained if Lab.is_over else Lab.evaluated
    if model is not None and not (has_failed and spent() < 1.0):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # no thread of the loader ends this
        trial.submit(unwrapped(model))
    if not has_failed:
        missing = "`evaluate_bpb(model, ...)`, which names the model to judge: call it after the training loop"
        if math.isinf(Lab.started_at):
            missing = "taking a batch from `make_dataloader(...)`: nothing was trained"
        raise SystemExit(f"it ended without {missing}")
