"""Asks which pages of a file are in memory: what others read of it.

expect: crash exception
detail: nothing done
"""

import ctypes
import mmap
import os
import sys

from reach import call, tell

FILE = os.open(sys.executable, os.O_RDONLY)
MAP = mmap.mmap(-1, 8192)

tell(
    {
        "mincore": lambda: call(
            "mincore", ctypes.addressof(ctypes.c_char.from_buffer(MAP)), 8192, bytes(8)
        ),
        "cachestat": lambda: call("cachestat", FILE, bytes(16), bytes(40), 0),
        "without waiting": lambda: os.preadv(FILE, [bytearray(8)], 0, os.RWF_NOWAIT),
    }
)
