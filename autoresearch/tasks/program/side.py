"""A candidate's process as the lab sees it: started, called, measured, and frozen while no call is outstanding."""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoresearch.config import Config
from autoresearch.paths import is_safe, python_command
from autoresearch.sandbox import Sandbox
from autoresearch.sandbox.launcher import kernel
from autoresearch.trial import channel as wire
from autoresearch.trial.process import Child, tree_pids
from autoresearch.trial.snapshot import Folder, write_files
from autoresearch.trial.telemetry import Output
from autoresearch.types import MB
from autoresearch.util import plain

_LOOK_SECONDS = 0.1
_MAX_RESTARTS = 1000
_MAX_LOG_BYTES = 1 << 16
_FROZEN_SECONDS = 0.1
"""Processor time that all freezes together may miss: a signal takes a moment, clocks count in hundredths."""
_TICKS = os.sysconf("SC_CLK_TCK")
_CODE = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from autoresearch.tasks.program.worker import main; main(*sys.argv[2:])"
)


class StoppedError(Exception):
    """The session was stopped meanwhile."""


class FailedError(Exception):
    """A call failed, by the candidate's doing; the evaluator may catch it.

    Args:
        kind: As of `task.CallError`.
        text: One sentence; it holds nothing a candidate chose but a line number and a builtin exception.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class CheatError(Exception):
    """A candidate broke the rules of the wire, or worked while it was frozen; no evaluator may forgive it."""


@dataclass(frozen=True)
class Bench:
    """What all processes of an evaluation share."""

    config: Config
    sandbox: Sandbox
    scratch: Path
    stop: threading.Event
    tell: Callable[[], None] = lambda: None
    """Called now and then while one waits."""


def worker_command(mode: str, file: Path, *descriptors: int) -> list[str]:
    """Return the arguments that run `worker.main`, with what it is given besides its channel."""
    root = str(Path(__file__).resolve().parents[3])
    numbers = map(str, descriptors)
    return python_command("-c", _CODE, root, mode, str(file), wire.FD_VARIABLE, *numbers)


class Reader:
    """Reads frames of a child with a deadline, looks after its output, and leaves when the session is stopped."""

    def __init__(
        self, child: Child, channel: wire.Channel, output: Output | None, bench: Bench
    ) -> None:
        self._child = child
        self._channel = channel
        self._output = output
        self._bench = bench
        self._is_heard = child.output_fd >= 0

    def frame(self, deadline: float) -> tuple[dict[str, Any], bytes]:
        """Return the next frame.

        Raises:
            TimeoutError: it did not come by `deadline` (monotonic seconds).
            ClosedError: the child is gone.
            PlainError: what came is none.
            StoppedError: the session was stopped.
        """
        return plain.read_frame(lambda size: self._read(size, deadline))

    def send(self, data: bytes, deadline: float) -> None:
        """Send all of `data`; raises as `frame` does."""
        view = memoryview(data)
        while view:
            self._wait(deadline, is_sending=True)
            view = view[self._channel.write_from(view, _LOOK_SECONDS) :]

    def has_data(self) -> bool:
        """Whether something came that was not read."""
        return bool(select.select([self._channel], [], [], 0)[0])

    def drain(self) -> None:
        """Take what the child printed."""
        if self._is_heard:
            text = self._child.read_output()
            self._is_heard = text is not None
            if text and self._output is not None:
                self._output.add(text)

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            self._wait(deadline)
            view = view[self._channel.read_into(view, _LOOK_SECONDS) :]
        view.release()
        return bytes(data)

    def _wait(self, deadline: float, *, is_sending: bool = False) -> None:
        """Wait until the socket is ready."""
        wanted: list[Any] = [self._channel]
        while True:
            heard = [self._child.output_fd] if self._is_heard else []
            if self._bench.stop.is_set():
                raise StoppedError
            self._bench.tell()
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            readable, writable, _ = select.select(
                heard + wanted * (not is_sending), wanted * is_sending, [], min(left, _LOOK_SECONDS)
            )
            if set(readable) & set(heard):
                self.drain()
            if self._channel in (*readable, *writable):
                return


class Freezer:
    """Stops every process below one, and lets them run again.

    A process that is stopped can be woken by a timer it set before, with SIGCONT as its signal; so what they computed
    meanwhile is counted.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._pids: set[int] = set()
        self._newest: bytes | None = None
        self._ticks = 0
        self._slept_at = 0.0
        self.worked_seconds = 0.0
        """Processor time taken while frozen, in all."""

    def freeze(self) -> None:
        """Stop all of them, those too that are being started meanwhile."""
        self._look()
        stopped: set[int] = set()
        while new := self._pids - stopped:
            for pid in new:
                _signal(pid, signal.SIGSTOP)
            stopped |= new
            self._look()
        self._ticks = sum(map(_ticks, self._pids))

    def thaw(self) -> None:
        """Let them run again."""
        self.worked_seconds += max(0, sum(map(_ticks, self._pids)) - self._ticks) / _TICKS
        for pid in self._pids:
            _signal(pid, signal.SIGCONT)

    def reset_peak(self) -> None:
        """Begin a new measurement of memory, where the system allows it."""
        for pid in self._pids:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/clear_refs", "w") as file:  # noqa: PTH123
                file.write("5")

    def peak_mb(self) -> float | None:
        """Return the largest resident memory since `reset_peak`, of all processes together, in MB."""
        total = 0
        for pid in self._pids:
            with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/status") as lines:  # noqa: PTH123
                total += next(
                    (int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0
                )
        return total * 1024 / MB if total else None

    def _look(self) -> None:
        """Look for processes again if one was started anywhere since."""
        newest = None
        if sys.platform == "linux":
            with open("/proc/loadavg", "rb") as file:  # noqa: PTH123 - called twice for each call
                newest = file.read().split()[-1]
        if newest is None or newest != self._newest:
            find = tree_pids if newest is None else kernel.descendants
            self._pids, self._newest = find(self._root), newest


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _ticks(pid: int) -> int:
    with (
        contextlib.suppress(OSError, IndexError, ValueError),
        open(f"/proc/{pid}/stat", "rb") as file,  # noqa: PTH123
    ):
        fields = file.read().rpartition(b")")[2].split()
        return int(fields[11]) + int(fields[12])
    return 0


class Side:
    """One version of the program, under trial or beside it.

    Args:
        bench: What it shares with the others.
        label: For its folder.
        files: Path -> content of what it may read.
        file: The one whose functions are called.
        editable: Of which files line numbers may be told.
    """

    def __init__(
        self,
        bench: Bench,
        label: str,
        files: Mapping[str, bytes],
        file: str,
        editable: tuple[str, ...],
    ) -> None:
        self._bench = bench
        self._label = label
        self._files = files
        self._file = file
        self._editable = editable
        self._num_restarts = 0
        self._has_seen = False
        self._problem: FailedError | None = None
        self.output = Output(_MAX_LOG_BYTES)
        """What it printed before the first call; later it knows hidden inputs."""
        self.num_calls = 0
        self.call_seconds = 0.0
        self.peak_mb: float | None = None
        self._start()

    def _start(self) -> None:
        with contextlib.ExitStack() as opened:
            folder = opened.enter_context(Folder(self._bench.scratch, self._label, {}))
            folder.work.mkdir()
            write_files(folder.work, self._files)
            self._work = folder.work
            self._child = Child(
                "program",
                config=self._bench.config,
                sandbox=self._bench.sandbox,
                folder=folder,
                argv=worker_command("serve", folder.work / self._file),
                is_heard=True,
            )
            opened.callback(self._child.close)
            self._opened = opened.pop_all()
        output = None if self._has_seen else self.output
        self._reader = Reader(self._child, self._child.channel, output, self._bench)
        self._freezer: Freezer | None = None

    def ready(self) -> None:
        """Wait until its file is loaded, then freeze it.

        Raises:
            FailedError: it could not be loaded; nothing hidden was shown, so its own words are in the text.
            StoppedError: the session was stopped.
        """
        limit = self._bench.config.trial.startup_seconds
        try:
            head, _ = self._reader.frame(time.monotonic() + limit)
        except TimeoutError:
            raise self._dead("timeout", f"it was not loaded in {limit:g} s") from None
        except (wire.ClosedError, plain.PlainError):
            self._child.wait(_LOOK_SECONDS)
            code = self._child.exit_code
            raise self._dead("ended", f"it ended while it was loaded: exit status {code}") from None
        if head.get("op") != "ready":
            where = f" at line {head.get('line')} of {head.get('file')}" if head.get("line") else ""
            self.output.add(str(head.get("text", "")).encode(errors="replace"))
            text = f"{head.get('exception')}{where} while it was loaded"
            raise self._dead(
                "exception", text if not self._has_seen else "it could not be loaded again"
            )
        self._freezer = Freezer(self._root())
        self._freezer.freeze()
        self._reader.drain()

    def _root(self) -> int:
        """Return the process below which all are the candidate's: the keeper, or without a sandbox the supervisor."""
        below = tree_pids(self._child.pid, is_recursive=False)
        is_kept = self._bench.sandbox.name in ("bubblewrap", "landlock")
        return min(below) if is_kept and below else self._child.pid

    def call(
        self, name: str, body: bytes, seconds: float | None
    ) -> tuple[bytes, float, float | None]:
        """Call a function of it.

        Returns:
            The answer, the seconds it took and its peak memory in MB.

        Raises:
            FailedError: it raised, was late, or ended; it stays dead until `restart` where it was late or ended.
            CheatError: it spoke before it was asked, or worked while it was frozen.
            StoppedError: the session was stopped.
        """
        if self._problem is not None:
            raise self._problem
        assert self._freezer is not None
        if self._reader.has_data():
            raise CheatError("it answered before it was asked")
        left = self._bench.config.trial.budget_seconds - self.call_seconds
        limit = left if seconds is None else min(left, seconds)
        request = plain.pack({"op": "call", "name": name}, body)
        self._has_seen = True
        self._reader = Reader(self._child, self._child.channel, None, self._bench)
        self._freezer.reset_peak()
        self._freezer.thaw()
        if self._freezer.worked_seconds > _FROZEN_SECONDS:
            raise CheatError("it worked while none of its calls was outstanding")
        began = time.monotonic()
        try:
            self._reader.send(request, began + limit)
            head, answer = self._reader.frame(began + limit)
        except TimeoutError:
            text = f"`{name}` took more than {limit:.3g} s"
            raise self._dead("timeout", text) from None
        except wire.ClosedError:
            raise self._dead("ended", f"the process ended in a call of `{name}`") from None
        except plain.PlainError as exc:
            raise CheatError(f"its answer is no frame: {exc}") from exc
        finally:
            spent = time.monotonic() - began
            self.num_calls += 1
            self.call_seconds += spent
        self._freezer.freeze()
        peak = self._freezer.peak_mb()
        self.peak_mb = max(filter(None, (peak, self.peak_mb)), default=None)
        if head.get("op") == "answer":
            return answer, spent, peak
        raise self._failure(name, head)

    def _failure(self, name: str, head: Mapping[str, Any]) -> FailedError:
        """Return the error of a failed call: of all that it says the class of a builtin exception and a line."""
        if head.get("op") == "unknown":
            return FailedError("unknown_function", f"`{self._file}` has no function `{name}`")
        if head.get("op") == "bad":
            return FailedError("bad_answer", f"the answer of `{name}` is no plain data")
        if head.get("op") != "error":
            raise CheatError("it broke the protocol of the wire")
        kind, file, line = head.get("exception"), head.get("file"), head.get("line")
        kind = kind if isinstance(kind, str) and kind in _EXCEPTIONS else "an exception"
        where = ""
        if file in self._editable and isinstance(line, int) and not isinstance(line, bool):
            num_lines = self._files.get(str(file), b"").count(b"\n") + 1
            where = f" at line {line} of {file}" if 0 < line <= num_lines else ""
        return FailedError("exception", f"{kind}{where} in a call of `{name}`")

    def _dead(self, kind: str, text: str) -> FailedError:
        self._child.kill()
        self._reader.drain()
        self._problem = FailedError(kind, text)
        return self._problem

    def restart(self) -> None:
        """Begin again with a fresh process and folder; raises as `ready` does.

        Raises:
            FailedError: that was done too often.
        """
        self._num_restarts += 1
        if self._num_restarts > _MAX_RESTARTS:
            raise FailedError("ended", f"it was started more than {_MAX_RESTARTS} times")
        self._opened.close()
        self._problem = None
        self._start()
        self.ready()

    def read(self, path: str) -> bytes:
        """Return a file it wrote; no link is followed on the way.

        Raises:
            FailedError: there is none, or it is too large.
        """
        missing = FailedError(
            "no_output", f"it left no file `{path}` of at most {plain.MAX_BODY >> 20} MB"
        )
        if not is_safe(path):
            raise missing
        *folders, name = path.split("/")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with contextlib.ExitStack() as opened:
            try:
                place = os.open(self._work, flags | os.O_DIRECTORY)
                opened.callback(os.close, place)
                for folder in folders:
                    place = os.open(folder, flags | os.O_DIRECTORY, dir_fd=place)
                    opened.callback(os.close, place)
                found = os.open(name, flags, dir_fd=place)
                opened.callback(os.close, found)
                state = os.fstat(found)
                if state.st_mode & 0o170000 != 0o100000 or state.st_size > plain.MAX_BODY:
                    raise missing
                with open(found, "rb", closefd=False) as file:
                    return file.read(plain.MAX_BODY)
            except OSError as exc:
                raise missing from exc

    def end(self) -> None:
        """Ask for its end, so that `close` need not wait for it long."""
        self._child.ask_to_end()

    def close(self) -> None:
        """End it and remove its folder."""
        self._opened.close()


_EXCEPTIONS = frozenset(
    name
    for name, kind in vars(__import__("builtins")).items()
    if isinstance(kind, type) and issubclass(kind, BaseException)
)
