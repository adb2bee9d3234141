"""Holds memory in a file without a name, where what a process maps does not show it.

expect: crash exception
memory_mb: 330 650
"""

import os
import time

file = os.memfd_create("x")
for _ in range(320):
    os.write(file, bytes(1 << 20))
time.sleep(1.5)
raise RuntimeError("done")
