"""Starts one child, and when it or the lab ends, kills everything that child left. Runs as a script.

    python -I -S supervisor.py FD ARGV...

On Linux it is a subreaper: whatever the child forks, in whatever session, becomes its descendant and cannot outlive
it. FD is a socket to the lab: when the lab writes or dies, everything is killed. At the end one line goes to the lab:
`STATUS MAXRSS_KB`, the wait status of the child (-1: unknown) and the largest resident memory of one of its processes.
Only the standard library, and little of it: it starts in a few milliseconds.
"""

import os
import select
import signal
import sys
import time

_SUBREAPER = 36


def main(argv: list[str]) -> int:
    """Run the child and clean up after it; see the module."""
    control = int(argv[1])
    os.set_inheritable(control, False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    is_subreaper = _become_subreaper()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer)
    pid = _start(argv[2:])
    # What the child was given is not held open here, so that its end is seen at the other end.
    low = 3
    for fd in (*sorted((control, reader, writer)), 4096):
        os.closerange(low, fd)
        low = fd + 1
    status, maxrss = None, 0
    while status is None:
        readable, _, _ = select.select([control, reader], [], [], 5.0)
        if control in readable:
            os.kill(pid, signal.SIGKILL)
            break
        if reader in readable:
            os.read(reader, 4096)
        status, maxrss = _reap(pid, status, maxrss)
    status, maxrss = _kill_rest(pid, status, maxrss, is_subreaper)
    try:
        os.write(control, b"%d %d\n" % (-1 if status is None else status, maxrss))
    except OSError:
        pass
    return 0


def _start(argv: list[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
            signal.SIGHUP,
            signal.SIGQUIT,
            signal.SIGCHLD,
        ):
            signal.signal(number, signal.SIG_DFL)
        os.execv(argv[0], argv)  # noqa: S606 - no shell is wanted
    except OSError as exc:
        os.write(2, f"cannot start `{argv[0]}`: {exc}\n".encode())
    os._exit(127)


def _become_subreaper() -> bool:
    if sys.platform != "linux":
        return False
    import ctypes

    return bool(ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0) == 0)


def _reap(pid: int, status: int | None, maxrss: int) -> tuple[int | None, int]:
    """Take every ended process; return the child's status if it was among them."""
    while True:
        try:
            found, code, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return status, maxrss
        if found == 0:
            return status, maxrss
        scale = 1024 if sys.platform == "darwin" else 1
        maxrss = max(maxrss, int(usage.ru_maxrss) // scale)
        if found == pid:
            status = code


def _kill_rest(
    pid: int, status: int | None, maxrss: int, is_subreaper: bool
) -> tuple[int | None, int]:
    """Kill every descendant until none is left."""
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        try:
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            pass
        rest = _descendants() if is_subreaper else []
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in rest:
                try:
                    os.kill(process, number)
                except OSError:
                    pass
        status, maxrss = _reap(pid, status, maxrss)
        if status is not None and not rest:
            break
        time.sleep(0.001)
    return status, maxrss


def _descendants() -> list[int]:
    """Return the pids below this process, nearest first."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib would double the start-up time
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            if state != b"Z":
                parents.setdefault(int(parent), []).append(int(name))
    found, queue = [], [os.getpid()]
    while queue:
        children = parents.get(queue.pop(), [])
        found += children
        queue += children
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv))
