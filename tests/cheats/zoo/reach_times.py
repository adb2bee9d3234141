"""Sets the times of devices and files that anybody may write: a note that outlives the trial.

expect: crash exception
detail: nothing done
"""

import os

from known import DATA, SECRETS
from reach import tell


def note(file):
    before = os.fstat(file).st_mtime_ns
    os.utime(file)
    if os.fstat(file).st_mtime_ns == before:
        raise OSError("nothing happened")


tell(
    {
        "null": lambda: os.utime("/dev/null"),
        "zero": lambda: os.utime("/dev/zero"),
        "by descriptor": lambda: note(os.open("/dev/null", os.O_RDWR)),
        "a file of the user": lambda: os.utime(SECRETS[0]),
        "text": lambda: os.utime(DATA[1]),
    }
)
