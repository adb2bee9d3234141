"""Runs in the sandbox of a candidate or of an evaluator: `serve` answers calls, `evaluate` makes them.

Nothing here is trusted by the lab: it runs in one process with unread code. What protects the score is on the other
end of the socket.
"""

import builtins
import os
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from autoresearch.task import CallError, Candidate, Score, WrongAnswerError
from autoresearch.util import plain


def main(mode: str, file: str, variable: str, *descriptors: str) -> None:
    """Do what `mode` says with the program `file`, by the socket that `variable` names and further ones."""
    numbers = (os.environ[variable], *descriptors)
    sockets = [socket.socket(fileno=int(number)) for number in numbers]
    for sock in sockets:
        sock.setblocking(True)
        os.set_inheritable(sock.fileno(), False)
    if mode == "serve":
        _serve(sockets[0], file)
    else:
        _evaluate(sockets, file)


def _load(file: str) -> ModuleType:
    path = Path(file).resolve()
    sys.path.insert(0, str(path.parent))
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    sys.modules[path.stem] = module
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102 - the purpose
    return module


def _described(exc: BaseException, file: str) -> dict[str, Any]:
    """Return class, file and line of an exception, and its traceback without the frames of this module."""
    import traceback  # a tenth of the start, and most need it not

    root, line, where = Path(file).resolve().parent, None, Path(file).name
    for frame in traceback.extract_tb(exc.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(root):
            line, where = frame.lineno, str(path.relative_to(root))
    shown = traceback.format_exception(type(exc), exc, exc.__traceback__)
    text = "".join(part for part in shown if __file__ not in part)
    return {
        "exception": type(exc).__name__[:80],
        "line": line,
        "file": where[:200],
        "text": text[-1500:].encode(errors="replace").decode(),
    }


def _serve(sock: socket.socket, file: str) -> None:
    reader = Candidate(sock)
    try:
        module = _load(file)
    except BaseException as exc:  # noqa: BLE001 - whatever it raises is its failure
        sock.sendall(plain.pack({"op": "error", **_described(exc, file)}))
        return
    sock.sendall(plain.pack({"op": "ready"}))
    while True:
        head, body = plain.read_frame(reader._read)  # noqa: SLF001 - the same wire from the other end
        function = getattr(module, head["name"], None)
        if not callable(function) or head["name"].startswith("_"):
            sock.sendall(plain.pack({"op": "unknown"}))
            continue
        try:
            answer = plain.encode(function(*plain.decode(body)))
        except plain.PlainError as exc:
            sock.sendall(plain.pack({"op": "bad", "text": str(exc)}))
        except BaseException as exc:  # noqa: BLE001 - whatever it raises is its failure
            found = _described(exc, file)
            found["exception"] = next(
                kind.__name__
                for kind in type(exc).__mro__
                if getattr(builtins, kind.__name__, None) is kind
            )
            sock.sendall(plain.pack({"op": "error", **found}))
        else:
            sock.sendall(plain.pack({"op": "answer"}, answer))


def _evaluate(sockets: list[socket.socket], file: str) -> None:
    try:
        module = _load(file)
        function = module.evaluate
    except BaseException as exc:  # noqa: BLE001 - the lab says it
        sockets[0].sendall(plain.pack({"op": "error", **_described(exc, file)}))
        return
    candidates = [Candidate(sock) for sock in sockets]
    sockets[0].sendall(plain.pack({"op": "ready"}))
    head, _ = plain.read_frame(candidates[0]._read)  # noqa: SLF001
    # Two sides are scored by two copies of one evaluator, which know as little of each other as of who is who.
    number = 0 if len(sockets) == 1 or os.fork() else 1
    for other, sock in enumerate(sockets):
        if other != number:
            sock.close()
    _seed(head["seed"])
    try:
        found = function(candidates[number], head["seed"], head["split"])
        values, figures = (found if isinstance(found, Score) else Score(found)).checked()
        answer = plain.pack({"op": "score"}, plain.encode({"values": values, "figures": figures}))
    except BaseException as exc:  # noqa: BLE001 - the lab says it
        failed = {
            "call": exc.kind if isinstance(exc, CallError) else "",
            "is_wrong": isinstance(exc, WrongAnswerError),
        }
        answer = plain.pack({"op": "error", **failed, **_described(exc, file)})
    sockets[number].sendall(answer)
    if len(sockets) > 1 and number == 0:
        os.wait()


def _seed(seed: int) -> None:
    """Let an evaluator that draws by the global generators draw the same for both sides."""
    import random

    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
