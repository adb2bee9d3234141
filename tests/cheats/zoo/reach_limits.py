"""Lowers the limits of the lab and moves it to one core.

expect: crash exception
detail: nothing done
"""

import os
import resource

from known import LAB
from reach import tell

tell(
    {
        "files": lambda: resource.prlimit(LAB, resource.RLIMIT_NOFILE, (64, 64)),
        "processor": lambda: resource.prlimit(LAB, resource.RLIMIT_CPU, (1, 1)),
        "core": lambda: os.sched_setaffinity(LAB, {0}),
        "scheduler": lambda: os.sched_setscheduler(LAB, os.SCHED_IDLE, os.sched_param(0)),
        "its own core file": lambda: resource.setrlimit(resource.RLIMIT_CORE, (1, 1)),
    }
)
