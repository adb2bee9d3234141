"""Sends SIGKILL to its parent and to every process it can name.

expect: ok|crash exception
"""

import os
import signal

from base import play


def kill(trial):
    own = os.getpid()
    for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc")))):
        if pid not in (own, 1):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass


build_model = play(__name__, before_start=kill)
