"""Reads what is to be done, a dict as `marshal` writes it, in hexadecimal, and does it.

It names one of two modes.

`keep` (outside): makes a control group where it may, starts the child (bubblewrap, or itself under
Landlock and our filter), answers the broker's calls, watches disk, memory and processes, and ends
when the child ends, when its own parent is gone, or on SIGTERM. Whatever is left of the tree is then killed,
and it ends the way the child ended. A limit that was broken is reported on standard error.

`enter` (inside bubblewrap): sets resource limits, drops to the throw-away uid, starts the program.
"""

from __future__ import annotations

import marshal
import os
import resource
import sys

from .inside import enter
from .keep import Keeper

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # the public module brings enum and re, a third of the start


def main(data: str) -> None:
    """Do what the specification `data` says; never returns."""
    spec = marshal.loads(bytes.fromhex(data))  # noqa: S302
    if spec["mode"] == "enter":
        enter(spec)
    status = Keeper(spec).run()
    code = os.waitstatus_to_exitcode(status)
    if spec["backend"] == "bubblewrap" and 128 < code <= 128 + 31:
        code = 128 - code  # how bubblewrap reports a signal
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        code = 128 - code
    sys.exit(code)
