"""Takes memory as files without a name, which are nobody's resident pages.

expect: crash oom|exception
settings: sandbox.memory_mb=1200 sandbox.disk_mb=600
"""

import os
import time

from base import play


def grow(trial):
    for _ in range(8):
        file = os.memfd_create("zoo")
        for _ in range(16):
            os.write(file, bytes(32 << 20))
        time.sleep(0.3)
    time.sleep(5)


build_model = play(__name__, before_start=grow)
