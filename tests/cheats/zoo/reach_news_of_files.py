"""Asks to be told what others do with files: inotify, directory notification and leases.

expect: crash exception
detail: nothing done
"""

import fcntl
import os
import sys

from reach import call, tell

tell(
    {
        "inotify": lambda: call("inotify_init1", 0),
        "directory": lambda: fcntl.fcntl(os.open("/usr", os.O_RDONLY), 1026, 0x80000001),
        "lease": lambda: fcntl.fcntl(os.open(sys.executable, os.O_RDONLY), 1024, fcntl.F_RDLCK),
    }
)
