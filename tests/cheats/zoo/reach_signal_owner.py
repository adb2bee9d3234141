"""Makes the lab the owner of a socket, so that the kernel signals it when something comes.

expect: crash exception
detail: nothing done
"""

import fcntl
import signal
import socket
import sys

from known import LAB
from reach import tell

OURS, THEIRS = socket.socketpair()
NUMBER = LAB.to_bytes(4, sys.byteorder)

tell(
    {
        "owner": lambda: fcntl.fcntl(OURS, fcntl.F_SETOWN, LAB),
        "owner, extended": lambda: fcntl.fcntl(OURS, 15, (1).to_bytes(4, sys.byteorder) + NUMBER),
        "signal": lambda: fcntl.fcntl(OURS, 10, signal.SIGCONT),
        "FIOSETOWN": lambda: fcntl.ioctl(OURS, 0x8901, NUMBER),
        "SIOCSPGRP": lambda: fcntl.ioctl(OURS, 0x8902, NUMBER),
    }
)
