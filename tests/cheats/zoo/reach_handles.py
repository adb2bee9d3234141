"""Opens files by their number, without a name that a sandbox could hide.

expect: crash exception
detail: nothing done
"""

import os

from reach import call, tell

HANDLE = (64).to_bytes(8, "little") + bytes(64)

tell(
    {
        "a handle": lambda: call("name_to_handle_at", -100, b"/usr\0", HANDLE, bytes(8), 0),
        "open": lambda: call("open_by_handle_at", os.open("/usr", os.O_RDONLY), HANDLE, 0),
    }
)
