"""The standard streams of this process: one that is closed, full or without a reader must not end its work."""

import os
import sys
from collections.abc import Collection


def open_closed() -> None:
    """Open /dev/null for each standard stream this process was started without.

    Left closed, its number would be that of the next file opened, which then receives what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            point_to_nowhere([number])
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def drop_broken(message: str) -> None:
    """Point the output stream that just failed to nowhere: stderr if it does not take `message`, else stdout.

    To ask it is the only way: a stream forgets what it could not write, so that a second flush succeeds.
    """
    try:
        os.write(2, message.encode())
    except OSError:
        point_to_nowhere([2])
    else:
        point_to_nowhere([1])


def point_to_nowhere(files: Collection[int]) -> None:
    """Make descriptors those of /dev/null, whatever they were."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for file in files:
        os.dup2(nowhere, file)
        os.set_inheritable(file, True)
    if nowhere not in files:
        os.close(nowhere)
