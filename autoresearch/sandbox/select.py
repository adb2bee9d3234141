"""Which backends work on this machine: found by running the very command, never by a setting."""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoresearch.sandbox import bubblewrap, landlock, seatbelt
from autoresearch.sandbox import command as keeper
from autoresearch.sandbox.policy import Policy, Sandbox

BACKENDS: dict[str, Callable[[], Sequence[Sandbox]]] = {
    "bubblewrap": bubblewrap.variants,
    "landlock": landlock.variants,
    "seatbelt": seatbelt.variants,
}
"""Strongest first."""

_CODE = """
import _socket, os, sys
outside, parent = sys.argv[1], int(sys.argv[2])
def refused(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return True
    return False
if not refused(os.open, outside + "/secret", os.O_RDONLY): print("reads outside its folder")
elif not refused(os.open, outside + "/new", os.O_CREAT | os.O_WRONLY): print("writes outside its folder")
elif not refused(_socket.socket, _socket.AF_INET, _socket.SOCK_STREAM): print("opens network sockets")
elif not refused(os.kill, parent, 0): print("signals processes outside")
else:
    name = f"/dev/shm/autoresearch-{os.getpid()}"
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW
    if sys.platform == "linux" and "shm" in sys.argv[3:]:
        os.close(os.open(name, flags, 0o600))
        os.unlink(name)
    os.close(os.open("written", os.O_CREAT | os.O_WRONLY))
    print("ok")
"""
_CODE_LOOSE = _CODE.replace("elif not refused(os.kill, parent, 0)", "elif False")


@dataclass(frozen=True)
class Probe:
    """What one try of one backend showed."""

    backend: str
    sandbox: Sandbox | None
    """The variant that works, None if none does."""
    problem: str = ""
    """The last lines of what went wrong with the strongest variant."""
    milliseconds: float = 0.0
    """From start to end of the probe, the probing interpreter included."""


@functools.cache
def probe(backend: str) -> Probe:
    """Return the strongest variant of a backend that works here; tried once a process."""
    problem = ""
    for sandbox in BACKENDS[backend]():
        started = time.perf_counter()
        found = _try(sandbox)
        if found == "ok":
            return Probe(backend, sandbox, problem, 1000 * (time.perf_counter() - started))
        problem = problem or found
    return Probe(backend, None, problem or _absence(backend))


def _try(sandbox: Sandbox) -> str:
    folder = Path(tempfile.mkdtemp(prefix="autoresearch-probe-"))
    try:
        home, outside = folder / "home", folder / "outside"
        home.mkdir()
        outside.mkdir()
        folder.chmod(0o755)
        (outside / "secret").write_text("x")
        outside.chmod(0o777)
        (outside / "secret").chmod(0o666)
        is_loose = getattr(sandbox, "abi", 6) < 6 and not getattr(sandbox, "has_broker", True)
        code = _CODE_LOOSE if is_loose else _CODE
        flags = ["shm"] if getattr(sandbox, "has_broker", True) else []
        argv = [keeper.interpreter(), "-I", "-S", "-c", code, str(outside), str(os.getpid())]
        command = sandbox.wrap([*argv, *flags], Policy("train", home, home))
        result = subprocess.run(
            command.argv,
            env=dict(command.env),
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
            text=True,
            errors="replace",
        )
        if result.stdout.strip() == "ok" and result.returncode == 0:
            return "ok"
        return (result.stdout + result.stderr).strip()[-500:] or f"exit {result.returncode}"
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _absence(backend: str) -> str:
    if backend == "bubblewrap":
        if not sys.platform.startswith("linux"):
            return "only on Linux"
        return "not installed" if bubblewrap.find() is None else "does not start"
    if backend == "landlock":
        if not sys.platform.startswith("linux"):
            return "only on Linux"
        return "switched off in the kernel" if landlock.kernel_abi() == 0 else "does not start"
    return "only on macOS" if sys.platform != "darwin" else "not found"
