"""What an evaluator imports: `Candidate`, whose functions it calls, `Score`, which it returns, and two errors.

    from autoresearch.task import Candidate, Score

    def evaluate(candidate: Candidate, seed: int, split: str) -> Score:
        cases = make_cases(seed, split)     # split: "validation", or "test" for confirmations
        return Score([value_of(case, candidate.call("bid", case)) for case in cases])

Imports nothing heavy, `dataclasses` neither: it is started twice for each trial. See docs/tasks.md.
"""

import math
import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from autoresearch.util import plain

MAX_CASES = 100_000
LARGEST = 1e15
"""Of a score or a figure, in size."""


class CallError(Exception):
    """A call failed, by the candidate's doing; where the evaluator does not catch it, the trial is a crash.

    Attributes:
        kind: `exception`, `timeout`, `ended`, `bad_answer`, `unknown_function` or `no_output`.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class WrongAnswerError(Exception):
    """Raised by an evaluator where an answer breaks the rules of its task: the candidate is invalid, not the evaluator.

    Its text is for the evaluator's author; no proposer reads it.
    """


class Score(NamedTuple):
    """What an evaluation found."""

    values: float | Sequence[float]
    """The score of each case, in the order of the cases; or one number. The score of the trial is their mean."""
    figures: Mapping[str, float | Sequence[float]] = {}
    """Further figures by name, shown and perhaps guarded, never optimised; one number or one a case."""

    def checked(self) -> tuple[list[float], dict[str, list[float]]]:
        """Return the values, and the figures, as lists of floats.

        Raises:
            ValueError: there is none, or one is no finite number.
        """
        figures = {str(name): _numbers(values, name) for name, values in self.figures.items()}
        return _numbers(self.values, "a score"), figures


def _numbers(values: Any, what: str) -> list[float]:
    found = list(values) if isinstance(values, Sequence) or hasattr(values, "tolist") else [values]
    if not 0 < len(found) <= MAX_CASES:
        raise ValueError(f"{what} has {len(found)} values, not 1 to {MAX_CASES:,}")
    numbers = [float(value) for value in found]
    for number in numbers:
        if not math.isfinite(number) or abs(number) > LARGEST:
            raise ValueError(f"{what} is {number}")
    return numbers


class Candidate:
    """One version of the program under trial, in a sandbox of which the evaluator sees nothing but answers.

    Attributes:
        seconds: What the last call took, by the lab's clock, from the request sent to the answer received.
        memory_mb: Peak memory of the candidate's processes in that call, in MB of 2^20 bytes; None where it is unknown.
        num_calls: Calls made so far.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.seconds = 0.0
        self.memory_mb: float | None = None
        self.num_calls = 0

    def call(self, name: str, *arguments: Any, seconds: float | None = None) -> Any:
        """Call a function of the candidate's first editable file and return its answer.

        Arguments and answer are plain data: None, bool, int, float, str, bytes, lists, dicts with text keys, numpy
        arrays of bools, integers or floats. Tuples arrive as lists. Numbers of an answer are finite.

        Args:
            name: Of the function.
            arguments: Its arguments.
            seconds: Longest time it may take; None: what is left of `[trial] budget_seconds`.

        Raises:
            CallError: it raised, was late, ended, has no such function or did not answer in plain data.
            PlainError: an argument is no plain data.
        """
        self.num_calls += 1
        head = {"op": "call", "name": str(name)[:200], "seconds": seconds}
        found, body = self._ask(head, plain.encode(list(arguments)))
        self.seconds, self.memory_mb = float(found["seconds"]), found["memory_mb"]
        try:
            return plain.decode(body, is_finite=True)
        except plain.PlainError as exc:
            raise CallError("bad_answer", f"answer of `{name}`: {exc}") from exc

    def restart(self) -> None:
        """Begin again with a fresh process and a fresh private folder: nothing that was learnt is left."""
        self._ask({"op": "restart"})

    def output(self, path: str) -> bytes:
        """Return a file that the candidate wrote, by its path in the folder it was started in.

        Raises:
            CallError: there is no such file, or it is larger than 64 MB.
        """
        return self._ask({"op": "output", "path": str(path)[:1000]})[1]

    def _ask(self, head: dict[str, Any], body: bytes = b"") -> tuple[dict[str, Any], bytes]:
        self._sock.sendall(plain.pack(head, body))
        found, body = plain.read_frame(self._read)
        if found["op"] == "failed":
            raise CallError(str(found["kind"]), str(found["text"]))
        return found, body

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._sock.recv(min(size - len(data), 1 << 20))
            if not part:
                raise SystemExit("the lab is gone")
            data += part
        return bytes(data)
