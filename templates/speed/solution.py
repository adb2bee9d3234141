"""Finds the nearest point of each query in the plane. `nearest` is what is timed; it must stay exact."""

import numpy as np

BLOCK = 2  # queries handled at a time, a power of two [1, 2048]
BY_PRODUCT = 0  # 1: squares and a matrix product in place of differences {0, 1}


def nearest(points: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return for each query (m, 2) the index of the nearest of the points (n, 2), whole numbers (m,)."""
    found = np.empty(len(queries), np.int64)
    squares = (points**2).sum(axis=1)
    for start in range(0, len(queries), BLOCK):
        some = queries[start : start + BLOCK]
        if BY_PRODUCT:
            distance = squares - 2 * some @ points.T
        else:
            distance = ((some[:, None, :] - points[None, :, :]) ** 2).sum(axis=2)
        found[start : start + BLOCK] = distance.argmin(axis=1)
    return found
