"""A pool of processes for `prepare`: JSON in, JSON out, no shared state.

Workers are started as `python -m` of this module. A `ProcessPoolExecutor` was tried: forked it is unsafe with the
threads of a live display; spawned it imports the caller's main module again, imports modules of the
current folder named like those of the standard library, and its workers outlive a parent that is killed. Here a
worker ends when its standard input closes, however the parent died.
"""

import contextlib
import errno
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Self

from autoresearch.errors import AutoresearchError
from autoresearch.paths import cache_directory, python_command
from autoresearch.tasks.gpt.data import jobs as work
from autoresearch.tasks.gpt.data.jobs import Report

Job = Callable[[dict[str, Any], Report], dict[str, Any]]

REPORT_SECONDS = 0.2


class Pool:
    """Processes that live as long as the `with` block; started when there is work for them.

    Args:
        num_workers: 0 runs jobs in this process.
    """

    def __init__(self, num_workers: int) -> None:
        self._size = num_workers
        self._workers: list[subprocess.Popen[str]] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
        for thread in self._threads:
            with contextlib.suppress(RuntimeError):  # An interrupt came before its start.
                thread.join()
        for worker in self._workers:
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def run(
        self, name: str, jobs: Sequence[dict[str, Any]], on_bytes: Report
    ) -> list[dict[str, Any]]:
        """Run the job `name` of `autoresearch.tasks.gpt.data.jobs` once for each argument; results in order.

        Args:
            name: Function of the module.
            jobs: Its arguments, JSON values.
            on_bytes: Called in this thread as bytes are done.

        Raises:
            AutoresearchError: a job failed, or a worker died. The pool is of no use afterwards.
        """
        if self._size == 0:
            function: Job = getattr(work, name)
            return [function(job, on_bytes) for job in jobs]
        todo: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()
        for item in enumerate(jobs):
            todo.put(item)
        events: queue.SimpleQueue[tuple[int | None, Any]] = queue.SimpleQueue()
        while len(self._workers) < min(self._size, len(jobs)):
            self._workers.append(_start(self._size))
        self._threads = [
            threading.Thread(target=_serve, args=(worker, name, todo, events), daemon=True)
            for worker in self._workers
        ]
        for thread in self._threads:
            thread.start()
        results: dict[int, dict[str, Any]] = {}
        while len(results) < len(jobs):
            index, value = events.get()
            if isinstance(value, BaseException):
                raise value
            if index is None:
                on_bytes(value)
            else:
                results[index] = value
        return [results[i] for i in range(len(jobs))]


def _start(num_threads: int) -> "subprocess.Popen[str]":
    from pathlib import Path

    import autoresearch

    root = str(Path(autoresearch.__file__).resolve().parent.parent)
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(
        [root, *filter(None, [environment.get("PYTHONPATH")])]
    )
    environment["RAYON_NUM_THREADS"] = str(num_threads)  # The tokenizer's trainer.
    # One arena and a low threshold: what a large document took goes back to the system.
    environment |= {
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
    # Workers ignore Ctrl-C: the parent ends them.
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(
            python_command("-m", "autoresearch.tasks.gpt.data.pool"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)


def _serve(
    worker: "subprocess.Popen[str]",
    name: str,
    todo: "queue.SimpleQueue[tuple[int, dict[str, Any]]]",
    events: "queue.SimpleQueue[tuple[int | None, Any]]",
) -> None:
    """Feed one worker until nothing is left; its death and its errors become events."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        while True:
            try:
                index, job = todo.get_nowait()
            except queue.Empty:
                return
            worker.stdin.write(json.dumps({"name": name, "job": job}) + "\n")
            worker.stdin.flush()
            while True:
                line = worker.stdout.readline()
                if not line:
                    raise _died(worker.wait())
                answer = json.loads(line)
                if "bytes" in answer:
                    events.put((None, answer["bytes"]))
                elif "error" in answer:
                    raise AutoresearchError(**answer["error"])
                else:
                    events.put((index, answer["result"]))
                    break
    except AutoresearchError as exc:
        events.put((None, exc))
    except (OSError, ValueError):
        events.put((None, _died(worker.wait())))


def _died(code: int) -> AutoresearchError:
    why = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    hint = "run `autoresearch prepare` again: it resumes where it was"
    if code == -signal.SIGKILL:
        hint += "; if memory ran out, end other programs first: it takes fewer processes where less is free"
    return AutoresearchError(f"a worker of `prepare` {why}", hint=hint, kind="data_invalid")


def explain(exc: Exception) -> AutoresearchError:
    """Return an error of `prepare` in words."""
    if isinstance(exc, AutoresearchError):
        return exc
    if isinstance(exc, OSError) and exc.errno == errno.ENOSPC:
        return AutoresearchError(
            f"no space left for `{cache_directory()}`",
            hint="make room, or set AUTORESEARCH_CACHE_DIR to another disk; `autoresearch prepare` then"
            " resumes where it was",
            kind="disk",
        )
    if isinstance(exc, OSError):
        return AutoresearchError(
            f"cannot read or write `{exc.filename or cache_directory()}`: {exc.strerror or exc}",
            hint="see who owns it and whether its disk is there",
            kind="disk",
        )
    if isinstance(exc, MemoryError):
        return AutoresearchError(
            "memory ran out", hint="end other programs, then run it again", kind="data_invalid"
        )
    return AutoresearchError(
        f"a worker of `prepare` failed: {type(exc).__name__}: {exc}",
        hint="set AUTORESEARCH_DEBUG=1 to see where",
        kind="data_invalid",
    )


def _main() -> None:
    """Answer jobs from standard input until it closes."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    while True:
        request = json.loads(lines.get())
        pending, reported = 0, time.monotonic()

        def report(num_bytes: int) -> None:
            nonlocal pending, reported
            pending += num_bytes
            if time.monotonic() - reported > REPORT_SECONDS:
                answer({"bytes": pending})
                pending, reported = 0, time.monotonic()

        try:
            result = getattr(work, request["name"])(request["job"], report)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the parent reports it.
            if os.environ.get("AUTORESEARCH_DEBUG") and not isinstance(exc, AutoresearchError):
                traceback.print_exc()
            error = explain(exc)
            answer({"error": {"message": error.message, "hint": error.hint, "kind": error.kind}})
        else:
            answer({"bytes": pending})
            answer({"result": result})


if __name__ == "__main__":
    _main()
