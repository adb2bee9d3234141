"""Takes files, memory and control of the lab by a descriptor of its process.

expect: crash exception
detail: nothing done
"""

import os
import signal

from known import LAB
from reach import call, tell

tell(
    {
        "file": lambda: call("pidfd_getfd", os.pidfd_open(LAB), 1, 0),
        "signal": lambda: signal.pidfd_send_signal(os.pidfd_open(LAB), signal.SIGCONT),
        "pages": lambda: call("process_madvise", os.pidfd_open(LAB), bytes(16), 1, 4, 0),
        "read": lambda: call("process_vm_readv", LAB, bytes(16), 1, bytes(16), 1, 0),
        "write": lambda: call("process_vm_writev", LAB, bytes(16), 1, bytes(16), 1, 0),
        "attach": lambda: call("ptrace", 16, LAB, 0, 0),
    }
)
