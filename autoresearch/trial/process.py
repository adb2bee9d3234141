"""The lab's hold on a child process: start it in the sandbox, listen to it, kill all of it."""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from autoresearch.config import Config
from autoresearch.errors import AutoresearchError
from autoresearch.machine.environment import make_gpu_nodes, torch_environment
from autoresearch.paths import python_command
from autoresearch.sandbox import Policy, Profile, Sandbox
from autoresearch.trial import channel as wire
from autoresearch.trial import supervisor
from autoresearch.trial.child import main as child_module
from autoresearch.trial.child import script as script_module
from autoresearch.trial.snapshot import Folder

MAX_PROCESSES = 4096
"""Processes and threads a trial may have."""
_KILL_SECONDS = 15.0


@contextlib.contextmanager
def starting(what: str) -> Iterator[contextlib.ExitStack]:
    """Give a stack for what is opened to start a process; it is closed only if that fails.

    Raises:
        AutoresearchError: the system refused.
    """
    with contextlib.ExitStack() as opened:
        try:
            yield opened
        except (OSError, wire.ClosedError) as exc:
            raise AutoresearchError(
                f"cannot start {what}: {getattr(exc, 'strerror', None) or exc}",
                hint="see `autoresearch doctor`",
                kind="trial_failed",
            ) from exc
        opened.pop_all()


class Child:
    """One process in the sandbox, with its supervisor, its channel and its output.

    Args:
        mode: `train`, `claim` or `audit`; `program` for whatever `argv` starts.
        config: For the limits of the sandbox.
        sandbox: Wraps the command.
        folder: Snapshot and home; outlives the child.
        file: What to run, relative to the snapshot.
        environment: Added to the allow-list.
        caches: Folders of compile caches it may read and copies for itself.
        is_heard: Whether its output is read; else it is thrown away.
        argv: The command, where it is not the one of `mode`; it starts in the folder `work` of its home.
        inherit: Descriptors it is given besides its channel.
        read_only: What it may read besides its snapshot and its caches.

    Raises:
        AutoresearchError: it cannot be started.
    """

    def __init__(
        self,
        mode: str,
        *,
        config: Config,
        sandbox: Sandbox,
        folder: Folder,
        file: str = "",
        environment: Mapping[str, str] | None = None,
        caches: Sequence[Path] = (),
        is_heard: bool = False,
        argv: Sequence[str] = (),
        inherit: Sequence[int] = (),
        read_only: Sequence[Path] = (),
    ) -> None:
        self.started_at = time.monotonic()
        profile: Profile = "judge" if mode in ("claim", "audit") else "train"
        with starting("a trial process") as opened:
            ours, theirs = map(opened.enter_context, wire.pair())
            control, their_control = map(opened.enter_context, wire.pair())
            needs_gpu = config.trial.device != "cpu"
            self._seal, their_seal = None, None
            # What a GPU's driver calls while a model runs has not been looked at.
            if profile == "judge" and not needs_gpu and sandbox.guarantees["notes"]:
                self._seal, their_seal = map(opened.enter_context, wire.pair())
            reader, writer = os.pipe() if is_heard else (-1, -1)
            if is_heard:
                opened.callback(os.close, reader)
                opened.callback(os.close, writer)
            if needs_gpu:
                make_gpu_nodes()
            policy = Policy(
                profile=profile,
                working_directory=folder.work if argv else folder.snapshot,
                home=folder.home,
                temporary=folder.temporary,
                read_only=(folder.snapshot, *caches, *read_only),
                environment={
                    **environment_for(theirs.fileno()),
                    **cache_environment(folder.cache, caches),
                    **(environment or {}),
                },
                inherit=(theirs.fileno(), *inherit),
                seal=None if their_seal is None else their_seal.fileno(),
                needs_gpu=needs_gpu,
                max_processes=MAX_PROCESSES,
                memory_mb=config.sandbox.memory_mb,
                disk_mb=config.sandbox.disk_mb,
            )
            command = sandbox.wrap(argv or script_module.command(mode, file), policy)
            script = python_command("-I", "-S", supervisor.__file__, str(their_control.fileno()))
            self._process = subprocess.Popen(
                [*script, *command.argv],
                env=dict(command.env),
                cwd=command.cwd,
                pass_fds=(*command.pass_fds, their_control.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=writer if is_heard else subprocess.DEVNULL,
                stderr=writer if is_heard else subprocess.DEVNULL,
                start_new_session=True,
            )
        for given in filter(None, (theirs, their_control, their_seal)):
            given.close()
        if is_heard:
            os.close(writer)
            os.set_blocking(reader, False)
        self.channel = wire.Channel(ours)
        self.control = control
        self.output_fd = reader
        self._report: tuple[int | None, int] | None = None
        self._is_closed = False
        self.has_seal = self._seal is not None

    @property
    def pid(self) -> int:
        """Pid of the supervisor: all processes of the child are below it."""
        return self._process.pid

    def read_output(self, max_bytes: int = 1 << 20) -> bytes | None:
        """Return what was printed since the last call, None when its output is closed."""
        parts: list[bytes] = []
        size = 0
        while size < max_bytes:
            try:
                data = os.read(self.output_fd, 65_536)
            except BlockingIOError:
                break
            except OSError:
                return b"".join(parts) or None
            if not data:
                return b"".join(parts) or None
            parts.append(data)
            size += len(data)
        return b"".join(parts)

    def has_ended(self) -> bool:
        """Whether the child, and all it started, is gone."""
        if self._report is None:
            readable, _, _ = select.select([self.control], [], [], 0)
            if readable:
                self._read_report()
        return self._report is not None

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended by itself, at most `seconds`; whether it has."""
        if self._report is None:
            select.select([self.control], [], [], seconds)
        return self.has_ended()

    def seal(self, patience: Callable[[], float]) -> str:
        """Refuse the child from now on what could leave a note for another process.

        Args:
            patience: Returns the seconds to wait at most before it is asked again; it may raise.

        Returns:
            What is against it; empty when it is done, or the sandbox cannot do it.

        Raises:
            ClosedError: the child is gone.
        """
        if self._seal is None:
            return ""
        answer = b""
        try:
            self._seal.sendall(b"seal")
            while not answer.endswith(b"\n"):
                self._seal.settimeout(patience())
                with contextlib.suppress(TimeoutError):
                    part = self._seal.recv(256)
                    if not part:
                        raise wire.ClosedError("the keeper is gone")
                    answer += part
        except OSError as exc:
            raise wire.ClosedError(str(exc)) from exc
        return answer.decode().strip().removesuffix("ok")

    def ask_to_end(self) -> None:
        """Have every process of the child killed, without waiting for it."""
        if self._report is None:
            with contextlib.suppress(OSError):
                self.control.sendall(b"K")

    def kill(self) -> None:
        """Kill every process of the child and wait until they are gone."""
        if self._report is None:
            self.ask_to_end()
            self.control.settimeout(_KILL_SECONDS)
            self._read_report(was_killed=True)
        try:
            self._process.wait(timeout=_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Kill it and release what belongs to it."""
        if self._is_closed:
            return
        self._is_closed = True
        self.kill()
        self.channel.close()
        self.control.close()
        if self._seal is not None:
            self._seal.close()
        if self.output_fd >= 0:
            os.close(self.output_fd)

    @property
    def exit_code(self) -> int | None:
        """Exit code, or minus the number of the signal that ended it.

        None while it lives, and where it is unknown: it was killed by the lab, or its supervisor is gone.
        """
        status = self._report[0] if self._report else None
        return None if status is None else os.waitstatus_to_exitcode(status)

    @property
    def max_rss_mb(self) -> float | None:
        """Largest resident memory of one of its processes, in MB, once it has ended."""
        return self._report[1] / 1024 if self._report and self._report[1] else None

    def _read_report(self, *, was_killed: bool = False) -> None:
        data = b""
        try:
            while not data.endswith(b"\n"):
                part = self.control.recv(64)
                if not part:
                    break
                data += part
            status, maxrss = map(int, data.split())
            is_known = status >= 0 and not (was_killed and status == signal.SIGKILL)
            self._report = (status if is_known else None, maxrss)
        except (OSError, ValueError):
            # The supervisor itself was killed.
            self._process.kill()
            self._report = (None, 0)


def environment_for(fd: int) -> dict[str, str]:
    """Return the whole environment of a child: an allow-list, no keys."""
    return {
        **torch_environment(),
        wire.FD_VARIABLE: str(fd),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONIOENCODING": "utf-8:backslashreplace",
    }


def cache_environment(private: Path, caches: Sequence[Path]) -> dict[str, str]:
    """Return the variables that say where compile caches are written, and what is there to begin with."""
    shared = {child_module.CACHES_VARIABLE: os.pathsep.join(map(str, caches))} if caches else {}
    places = zip(child_module.CACHE_VARIABLES, ("inductor", "triton"), strict=True)
    return {**shared, **{name: str(private / place) for name, place in places}}


def tree_pids(pid: int, *, is_recursive: bool = True) -> set[int]:
    """Return the pids below `pid`, or directly below it."""
    import psutil

    try:
        return {process.pid for process in psutil.Process(pid).children(recursive=is_recursive)}
    except psutil.Error:
        return set()


def suspended_seconds() -> float:
    """Return how long this machine has slept since it booted; differences of it tell of a suspend."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return time.time() - time.monotonic()
