"""Takes memory in many children, each of which is within the limit.

expect: crash oom|exception|no_submission
settings: sandbox.memory_mb=600
"""

import os
import time

for _ in range(8):
    if os.fork() == 0:
        held = bytearray(b"x" * (200 << 20))
        time.sleep(30)
        os._exit(0)
time.sleep(5)
raise SystemExit(0)
