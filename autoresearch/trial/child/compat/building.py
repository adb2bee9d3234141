"""The model of a script of upstream's shape: found where it is trained, built again where it is judged."""

import contextlib
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from autoresearch.trial import channel as wire
from autoresearch.trial.child.client import Trial
from autoresearch.trial.child.compat.lab import Lab, enter_writable
from autoresearch.trial.child.script import CHECKED_VARIABLE, command
from autoresearch.trial.child.weights import encode_weights

LOAD_VARIABLE = "AUTORESEARCH_LOAD"
_OURS = __name__.removesuffix(".building")


class BuiltError(BaseException):
    """The script asks for its first batch: its model is there."""

    def __init__(self, variables: dict[str, Any]) -> None:
        super().__init__()
        self.variables = variables


def is_main_thread() -> bool:
    """Whether this is the thread that runs the script; a loader may have one too."""
    return threading.current_thread() is threading.main_thread()


def listen() -> None:
    """Let the main thread raise what `raise_in_main` is given."""

    def hear(*_: Any) -> NoReturn:
        raise Lab.raised

    if is_main_thread():
        signal.signal(signal.SIGUSR1, hear)


def raise_in_main(exc: BaseException) -> NoReturn:
    """Raise in the main thread, which may be waiting for a batch, and end this one if it is another."""
    if is_main_thread():
        raise exc
    Lab.raised = exc
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
    raise SystemExit


def variables_seen() -> dict[str, Any]:
    """Return what the script can see: globals, locals of its functions, attributes of `self`.

    Where a thread asks, what its main thread sees besides.
    """
    found: list[dict[str, Any]] = []
    main = sys._current_frames()[threading.main_thread().ident or 0]  # noqa: SLF001 - of CPython, documented
    for start in (inspect.currentframe(), main):
        frame = start
        while frame is not None:
            name = str(frame.f_globals.get("__name__"))
            if name != _OURS and not name.startswith(f"{_OURS}."):
                local = dict(frame.f_locals)
                owner = local.get("self")
                if owner is not None and not isinstance(owner, nn.Module):
                    found.append(dict(getattr(owner, "__dict__", {})))
                found.append(local)
                if frame.f_code.co_name == "<module>" and name == "__main__":
                    break
            frame = frame.f_back
        if is_main_thread():
            break
    return {name: value for scope in reversed(found) for name, value in scope.items()}


def part(output: Any, fits: Callable[[Tensor], bool]) -> Any:
    """Return the first tensor that fits of what a model gives, which may be several; else all of it."""
    parts = output.values() if isinstance(output, dict) else output
    parts = parts if isinstance(output, tuple | list | dict) else [output]
    return next((p for p in parts if isinstance(p, Tensor) and fits(p)), output)


def loss_in(output: Any) -> Any:
    """Return the loss in what a model gives for `model(idx, targets)`."""
    return part(output, lambda tensor: tensor.numel() == 1)


def model_of(variables: Mapping[str, Any]) -> nn.Module:
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


def autocast_of(variables: Mapping[str, Any]) -> torch.autocast | None:
    """Return the autocast a script has made, None if it has made none."""
    return next((v for v in variables.values() if isinstance(v, torch.autocast)), None)


def unwrapped(model: nn.Module) -> nn.Module:
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


def _only_logits(_: nn.Module, given: Any, named: Any, output: Any) -> Any:
    """Take the logits out of what a model gives that was asked for nothing else; a hook."""
    is_asked = len(given) + len(named) > 1
    return output if is_asked else part(output, lambda tensor: tensor.ndim == 3)


def build_skeleton(vocab_size: int, max_seq_len: int, device: Any) -> nn.Module:  # noqa: ARG001
    """Return a module with the keys and shapes of the model in training, without its memory."""
    assert Lab.trained is not None
    root = nn.Module()
    for name, value in unwrapped(Lab.trained).state_dict().items():
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
        Lab.vocab_size, Lab.max_seq_len, Lab.budget_seconds = vocab_size, max_seq_len, 300.0
        Lab.device = torch.device(device)
        variables = run_to_first_batch(path)
        model = unwrapped(model_of(variables)).to(device)
        autocast = autocast_of(variables)
        if autocast is not None:  # the script puts it around its calls, judging does not
            plain = model.forward

            def forward(idx: Tensor) -> Any:
                with autocast:
                    return plain(idx)

            model.forward = forward
        model.register_forward_hook(_only_logits, with_kwargs=True)
        return model

    return build_model


def run_to_first_batch(path: Path) -> dict[str, Any]:
    """Execute a script as `__main__` until it asks for data, and return its variables."""
    module = types.ModuleType("__main__")
    module.__file__ = str(path)
    kept, here = sys.modules.get("__main__"), Path.cwd()
    sys.modules["__main__"] = module
    sys.modules.pop("prepare", None)
    Lab.is_building = True
    listen()
    scratch = enter_writable()
    try:
        with _no_compile():
            exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102
    except BuiltError as exc:
        return exc.variables
    finally:
        Lab.is_building = False
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


def try_judging(trial: Trial, model: nn.Module) -> None:
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
            command("check", Lab.file),
            env={**os.environ, LOAD_VARIABLE: json.dumps(load), wire.FD_VARIABLE: "none"},
            pass_fds=(fd,),
            cwd=Lab.root,
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
    text = (Lab.root / Lab.file).read_text("utf-8", "replace")
    if "dtype" in why and "autocast(" in text:
        why += "; make the autocast once, before the loop, as `autocast_ctx = torch.amp.autocast(...)`: judging uses it"
    raise RuntimeError(f"judging would fail: {why}")


def check(file: str) -> None:
    """Be the process that `try_judging` starts: do what a judging process does before it gets rows.

    Raises:
        Exception: whatever would fail in judging.
    """
    from autoresearch.trial.child.judge_worker import Server

    load = json.loads(os.environ[LOAD_VARIABLE])
    Server("claim", file, load, int(load["fd"]))
