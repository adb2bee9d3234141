"""A pool of processes for `prepare`: JSON in, JSON out, no shared state.

Workers are started as `python -m autoresearch.data.pool` and not through multiprocessing, which imports
the caller's main module again and is unsafe to fork next to the threads of a live display. A worker ends
when its parent does, however that died.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from autoresearch.errors import AutoresearchError

Report = Callable[[int], None]
"""Called with the number of bytes done since the last call."""
Job = Callable[[dict[str, Any], Report], dict[str, Any]]

REPORT_SECONDS = 0.2


def run(
    name: str,
    jobs: Sequence[dict[str, Any]],
    num_workers: int,
    on_bytes: Report,
    num_threads: int = 1,
) -> list[dict[str, Any]]:
    """Run the job `name` of `autoresearch.data.work` once for each argument; results in order.

    Args:
        name: Function of the module.
        jobs: Its arguments, JSON values.
        num_workers: Processes; 0 runs in this one.
        on_bytes: Called in this thread as bytes are done.
        num_threads: Threads a library inside a worker may use.

    Raises:
        AutoresearchError: a job failed, or a worker died. The other workers are ended.
    """
    if num_workers == 0:
        from autoresearch.data import work

        function: Job = getattr(work, name)
        return [function(job, on_bytes) for job in jobs]
    todo: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()
    for item in enumerate(jobs):
        todo.put(item)
    events: queue.SimpleQueue[tuple[int | None, Any]] = queue.SimpleQueue()
    workers = [_start(num_threads) for _ in range(min(num_workers, len(jobs)))]
    threads = [
        threading.Thread(target=_serve, args=(w, name, todo, events), daemon=True) for w in workers
    ]
    results: dict[int, dict[str, Any]] = {}
    try:
        for thread in threads:
            thread.start()
        while len(results) < len(jobs):
            index, value = events.get()
            if isinstance(value, BaseException):
                raise value
            if index is None:
                on_bytes(value)
            else:
                results[index] = value
    finally:
        for worker in workers:
            worker.kill()
        for thread in threads:
            thread.join()
        for worker in workers:
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
    return [results[i] for i in range(len(jobs))]


def _start(num_threads: int) -> "subprocess.Popen[str]":
    from pathlib import Path

    import autoresearch

    root = str(Path(autoresearch.__file__).resolve().parent.parent)
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(
        [root, *filter(None, [environment.get("PYTHONPATH")])]
    )
    for variable in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS"):
        environment[variable] = str(num_threads)
    return subprocess.Popen(
        [sys.executable, "-m", "autoresearch.data.pool"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
    )


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
    hint = "run `autoresearch prepare` again: it goes on where it was"
    if code == -signal.SIGKILL:
        hint += "; if memory ran out, lower `data.workers`"
    return AutoresearchError(f"a worker of `prepare` {why}", hint=hint, kind="data_invalid")


def _main() -> None:
    """Answer jobs from standard input until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    from autoresearch.data import work

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
        except AutoresearchError as exc:
            answer({"error": {"message": exc.message, "hint": exc.hint, "kind": exc.kind}})
        except MemoryError:
            answer({"error": {"message": "memory ran out", "hint": "lower `data.workers`"}})
        else:
            answer({"bytes": pending})
            answer({"result": result})


if __name__ == "__main__":
    _main()
