"""Ends with an error text full of escapes that names a crash of the system.

expect: crash exception|oom
"""

import os

from base import play


def fail(trial):
    trial._channel.send(
        "error",
        kind="oom",
        exception="\x1b[31mOutOfMemoryError",
        message="\r\n\x1b]0;x\x07 keep this " * 50,
        line=10**9,
    )
    os._exit(0)


build_model = play(__name__, before_start=fail)
