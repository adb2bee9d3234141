"""Runs a file of the snapshot inside the sandbox, and says what ended it, so that nobody has to read a log to know."""

import sys
import traceback
import types
from pathlib import Path
from typing import Any


def run_file(file: str, name: str) -> types.ModuleType:
    """Execute a file of the snapshot as the module `name` and return it."""
    path = Path(file).resolve()
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    code = compile(path.read_bytes(), str(path), "exec")
    exec(code, module.__dict__)  # noqa: S102 - to run it is the purpose, in a sandbox
    return module


def describe(exc: BaseException, file: str) -> dict[str, Any]:
    """Return the `error` message for an exception: kind, type, text, and the line of `file`."""
    line = None
    for frame in traceback.extract_tb(exc.__traceback__):
        if Path(frame.filename).name == Path(file).name:
            line = frame.lineno
    name = type(exc).__name__
    text = str(exc)
    return {
        "kind": "oom" if is_out_of_memory(exc) else "exception",
        "exception": name[:80],
        "message": text[:600],
        "line": line,
    }


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    torch = sys.modules.get("torch")
    if isinstance(exc, MemoryError):
        return True
    if torch is not None and isinstance(exc, torch.OutOfMemoryError):
        return True
    # On the CPU and MPS torch raises a plain RuntimeError.
    words = ("can't allocate memory", "MPS backend out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(exc, RuntimeError) and any(word in str(exc) for word in words)
