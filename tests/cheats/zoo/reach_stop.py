"""Stops the lab and all it can name for a while, so that its clock is not looked at.

expect: crash exception
detail: nothing done
"""

import os
import signal

from known import LAB
from reach import tell

tell(
    {
        "the lab": lambda: os.kill(LAB, signal.SIGCONT),
        "its supervisor's group": lambda: os.killpg(os.getpgid(LAB), signal.SIGCONT),
        "its keeper": lambda: os.kill(os.getppid(), signal.SIGCONT) if os.getppid() > 1 else 1 / 0,
    }
)
