"""What outlives a trial: files under `.autoresearch/cache/<setup>/`, all of which may be deleted at any time."""

import contextlib
import os
from pathlib import Path

import numpy as np


def store_array(path: Path, array: np.ndarray) -> None:
    """Write an array atomically; a full disk is no error: the array is only measured again."""
    temporary = path.with_suffix(f".{os.getpid()}.npy")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def load_array(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return a stored array, None if there is none of this shape."""
    with contextlib.suppress(OSError, ValueError):
        array: np.ndarray = np.load(path, allow_pickle=False)
        if array.shape == shape:
            return array
    return None
