"""Runs a file of the snapshot inside the sandbox and describes the exception that ended it."""

import sys
import traceback
import types
from pathlib import Path
from typing import Any

from autoresearch.paths import python_command

BYTES_VARIABLE = "AUTORESEARCH_BYTES_PER_TOKEN"
"""Of the training text, for the estimates of a script of upstream's shape."""
CHECKED_VARIABLE = "AUTORESEARCH_CHECKED"
"""Set where this code was judged before: a script of upstream's shape need not try again that it can be."""
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "_status_alloc_failed")
_MAX_CAUSES = 8


def command(mode: str, file: str) -> list[str]:
    """Return the arguments that start a child."""
    root = str(Path(__file__).resolve().parents[3])
    code = (
        "import sys; root, mode, file = sys.argv[1:]; sys.path.append(root); "
        "from autoresearch.trial.child.main import main; main(mode, file)"
    )
    return python_command("-c", code, root, mode, file)


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
    """Whether an exception, or one it came from, says that memory ran out, on any device."""
    torch = sys.modules.get("torch")
    kinds = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
    cause: BaseException | None = exc
    for _ in range(_MAX_CAUSES):
        if cause is None:
            break
        # Beside its own type torch raises kinds of RuntimeError: for the CPU, MPS, errors of a driver or of a compiler.
        text = str(cause).lower() if isinstance(cause, RuntimeError) else ""
        if isinstance(cause, kinds) or any(word in text for word in _OUT_OF_MEMORY):
            return True
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return False
