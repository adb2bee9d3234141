"""Honest: four forked workers that share what was there before them; it must be counted once.

expect: crash exception
memory_mb: 200 450
"""

import os
import time

held = bytearray(b"x" * (200 << 20))
for _ in range(4):
    if os.fork() == 0:
        time.sleep(3)
        os._exit(0)
time.sleep(1.5)
raise RuntimeError("done")
