"""Where a belief waits between two runs, so that a long journal is not read again from its start.

Losing the file costs one such reading; one that does not fit the journal is not used.
"""

from autoresearch.decision.belief import believe, load, remember
from autoresearch.record.record import Record
from autoresearch.types import Session
from autoresearch.util.files import read_file, write_file

EVERY = 50
"""Events after which it is written again: a second's part to take in."""


class Beliefs:
    """The stored belief of one session."""

    def __init__(self, record: Record) -> None:
        self._path = record.run_directory.cache / "belief" / f"{record.tag}.npz"
        self._tag = record.tag
        self._place = 0

    def restore(self) -> None:
        """Let what is believed begin from the stored belief, if there is one."""
        found = load(read_file(self._path) or b"")
        if found is not None:
            self._place = found.place
            remember(self._tag, found)

    def store(self, session: Session) -> None:
        """Write what is believed now, where it is `EVERY` events ahead of what is stored.

        Raises:
            WorkError: the disk is full or the folder cannot be written.
        """
        found = believe(session)
        if found.place >= self._place + EVERY:
            write_file(self._path, found.dump(), durable=False)
            self._place = found.place
