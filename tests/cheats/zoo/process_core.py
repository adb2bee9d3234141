"""Raises the size of core files and dies of a signal, so that its memory is left on the disk.

expect: crash exception
detail: signal 6
"""

import contextlib
import os
import resource

with contextlib.suppress(OSError, ValueError):
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
os.abort()
