"""Keeps the machine from sleeping while a session runs, where the system offers a way."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator


def inhibitor() -> list[str] | None:
    """Return a command that keeps the machine awake while it runs, None if there is none."""
    if sys.platform == "darwin" and shutil.which("caffeinate"):
        return ["caffeinate", "-i", "-w", str(os.getpid())]
    if shutil.which("systemd-inhibit") and os.path.isdir("/run/systemd/system"):  # noqa: PTH112
        return [
            "systemd-inhibit",
            "--what=sleep:idle",
            "--who=autoresearch",
            "--why=experiments are running",
            "cat",  # until its input ends, which is when this process does, however it dies
        ]
    return None


@contextlib.contextmanager
def kept_awake() -> Iterator[bool]:
    """Hold the machine awake; gives whether anything does it."""
    command = inhibitor()
    process = None
    if command is not None:
        with contextlib.suppress(OSError):
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
    try:
        yield process is not None
    finally:
        if process is not None:
            process.terminate()
            process.communicate()


def is_on_battery() -> bool:
    """Whether the machine runs on its battery."""
    import psutil

    sensor = getattr(psutil, "sensors_battery", lambda: None)()
    return sensor is not None and sensor.power_plugged is False
