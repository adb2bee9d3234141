"""What outlives a trial: files under `.autoresearch/cache/<setup>/`, all of which may be deleted at any time."""

import contextlib
from pathlib import Path

import numpy as np

from autoresearch.errors import WorkError
from autoresearch.util.files import write_file


def store_array(path: Path, array: np.ndarray) -> None:
    """Write an array atomically; a full disk is no error: the array is only measured again."""
    with contextlib.suppress(WorkError):
        write_file(path, lambda file: np.save(file, array, allow_pickle=False))


def load_array(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return a stored array, None if there is none of this shape."""
    with contextlib.suppress(OSError, ValueError):
        array: np.ndarray = np.load(path, allow_pickle=False)
        if array.shape == shape:
            return array
    return None
