"""Takes memory as files in /tmp and /dev/shm, where they lie in memory.

expect: crash oom|exception
settings: sandbox.memory_mb=300
"""

import os
import time

for place in (os.environ["TMPDIR"], "/dev/shm"):
    for number in range(6):
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW
        file = os.open(f"{place}/zoo-{number}", flags, 0o600)
        for _ in range(100):
            os.write(file, bytes(1 << 20))
time.sleep(2)
raise SystemExit(0)
