"""The feeder of one trial as the lab sees it: started beside the sandbox, told when tokens may flow, and ended."""

import contextlib
import os
import subprocess
from pathlib import Path

from autoresearch.paths import python_command
from autoresearch.tasks.gpt import feeder
from autoresearch.trial import channel as wire
from autoresearch.trial.process import starting


class FeederProcess:
    """The lab's feeder of one trial; see feeder.py.

    Args:
        path: Folder of the prepared dataset.
        seed: Of the order of documents.
        max_seq_len: Longest row it serves.

    Raises:
        AutoresearchError: it cannot be started.
    """

    def __init__(self, path: Path, *, seed: int, max_seq_len: int) -> None:
        root = str(Path(__file__).resolve().parents[3])
        code = (
            "import sys; sys.path.insert(0, sys.argv[5]); "
            "from autoresearch.tasks.gpt.feeder import main; main(sys.argv)"
        )
        with starting("the feeder of a trial") as opened:
            ours, theirs = map(opened.enter_context, wire.pair())
            self.child_socket, feeder_socket = map(opened.enter_context, wire.pair())
            self.ring_fd = wire.memory_file("ring", can_be_sealed=False)
            opened.callback(os.close, self.ring_fd)
            counters_fd = wire.memory_file("counters", feeder.COUNTERS_BYTES)
            opened.callback(os.close, counters_fd)
            fds = (theirs.fileno(), feeder_socket.fileno(), self.ring_fd, counters_fd)
            self._process = opened.enter_context(
                subprocess.Popen(
                    python_command("-c", code, *map(str, fds), root),
                    pass_fds=fds,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            )
            opened.callback(self._process.kill)
            self.channel = wire.Channel(ours)
            self.counters = feeder.Counters(counters_fd, writable=False)
            self.channel.send("setup", path=str(path), seed=seed, max_seq_len=max_seq_len)
        theirs.close()
        feeder_socket.close()
        os.close(counters_fd)

    def go(self, deadline: float) -> None:
        """Let tokens flow until `deadline` (monotonic seconds).

        Raises:
            ClosedError: the feeder is gone.
        """
        self.channel.send("go", deadline=deadline)

    def failure(self, seconds: float = 0.0) -> str | None:
        """Return the last line of what the feeder said when it failed, None while it works or ended well.

        Args:
            seconds: To wait at most for the end of a feeder whose child, to whom it was given, is gone.
        """
        if seconds and self.ring_fd < 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        if self._process.poll() in (None, 0):
            return None
        assert self._process.stderr is not None
        with contextlib.suppress(ValueError):
            lines = self._process.stderr.read().decode("utf-8", "replace").strip().splitlines()
            return lines[-1] if lines else f"exit status {self._process.returncode}"
        return f"exit status {self._process.returncode}"

    def given(self) -> None:
        """Close the lab's copies of what the child was given."""
        self.child_socket.close()
        if self.ring_fd >= 0:
            os.close(self.ring_fd)
            self.ring_fd = -1

    def close(self) -> None:
        """End the feeder."""
        self._process.kill()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        self.channel.close()
        self.given()
