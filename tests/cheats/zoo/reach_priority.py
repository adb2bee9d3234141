"""Takes processor and disk from all that the user runs, or from the lab.

expect: crash exception
detail: nothing done
"""

import os

from known import LAB
from reach import call, tell

tell(
    {
        "of the user": lambda: os.setpriority(os.PRIO_USER, 0, 19),
        "of a group": lambda: os.setpriority(os.PRIO_PGRP, 0, 19),
        "of the lab": lambda: os.setpriority(os.PRIO_PROCESS, LAB, 19),
        "disk, of the user": lambda: call("ioprio_set", 3, 0, 3 << 13 | 7),
        "disk, of the lab": lambda: call("ioprio_set", 1, LAB, 3 << 13 | 7),
    }
)
