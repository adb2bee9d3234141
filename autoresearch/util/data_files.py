"""Files that are whole or not there, and their checksums."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def write_atomic(path: Path, write: Any) -> None:
    """Call `write(file)` on a temporary neighbour, sync it, and rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
