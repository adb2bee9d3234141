"""autoresearch: turns one GPU into an overnight research lab."""

TYPE_CHECKING = False
# Not from typing, and no annotations from the future: `python -m autoresearch` runs this file while the current
# folder, which may be a stranger's, is the first place to look for modules.

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from autoresearch.types import Session

__version__ = "0.1.0"


def read_session(path: "str | Path" = ".", tag: str | None = None) -> "Session":
    """Return the session of a run directory (or of a clone with the record fetched) as plain objects.

    Args:
        path: The run directory, or a folder inside it.
        tag: Which session; None: that of the current branch, else the newest.

    Raises:
        PrerequisiteError: there is no run directory or no such session.
    """
    from pathlib import Path

    from autoresearch.paths import find_run_directory
    from autoresearch.record.record import Record

    with Record.open(find_run_directory(Path(path)), tag) as record:
        return record.session()


def to_arrow(session: "Session") -> "pa.Table":
    """Return a session as an Arrow table with one row per experiment; `report.arrow.to_arrow` lists the columns."""
    from autoresearch.report.arrow import to_arrow

    return to_arrow(session)
