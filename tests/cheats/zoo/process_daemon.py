"""A daemon in a session of its own that ignores every signal and outlives the trial.

expect: ok
"""

import os
import signal
import sys

from base import play
from known import MARK


def leave(trial):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        for number in range(1, 32):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        for fd in range(64):
            try:
                os.close(fd)
            except OSError:
                pass
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(300)", MARK])


build_model = play(__name__, before_start=leave)
