"""The files of a trial, written out from its git tree into a private folder."""

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Self

from autoresearch.errors import AutoresearchError, WorkError
from autoresearch.trial.sandbox.launcher import wipe


class Folder:
    """A scratch folder of one process: `snapshot` to read, `home` to write. Removed at the end.

    Args:
        scratch: Where to make it.
        label: What it is for, in its name.
        files: Path -> content of the snapshot.

    Raises:
        AutoresearchError: the disk is full or `scratch` cannot be written.
    """

    def __init__(self, scratch: Path, label: str, files: Mapping[str, bytes]) -> None:
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            safe = "".join(c if c.isalnum() else "-" for c in label)[:40] or "trial"
            self.path = Path(tempfile.mkdtemp(prefix=f"{safe}-", dir=scratch)).resolve()
            self.snapshot = self.path / "snapshot"
            self.home = self.path / "home"
            self.cache = self.home / ".cache"
            self.snapshot.mkdir()
            self.home.mkdir()
            # A sandbox that drops to another user must be able to pass through.
            self.path.chmod(0o711)
            write_files(self.snapshot, files)
        except OSError as exc:
            raise AutoresearchError(
                f"cannot write the files of a trial to `{scratch}`: {exc.strerror or exc}",
                hint="free space there, or point the run directory at another disk",
                kind="disk",
            ) from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Not by shutil: a child may have left folders that are locked, or too deep for it.
        with contextlib.suppress(OSError):
            wipe(str(self.path))
        with contextlib.suppress(OSError):
            self.path.rmdir()


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a snapshot below `folder`.

    Raises:
        WorkError: a path leads out of the folder.
    """
    for name, content in files.items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts:
            raise WorkError(f"the snapshot has the path `{name}`, which leads out of it")
        path = folder / pure
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
