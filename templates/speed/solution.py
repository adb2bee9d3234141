"""Finds the nearest point of each query in the plane. `nearest` is what is timed; it must stay exact."""

import numpy as np

BLOCK = 8  # queries handled at a time, a power of two [1, 2048]
TILE = 128  # points handled at a time, a power of two [16, 4096]
BY_PRODUCT = 0  # 1: squares and a matrix product in place of differences {0, 1}


def nearest(points: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return for each query (m, 2) the index of the nearest of the points (n, 2), whole numbers (m,)."""
    found = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), BLOCK):
        some = queries[start : start + BLOCK]
        best = np.full(len(some), np.inf)
        for first in range(0, len(points), TILE):
            part = points[first : first + TILE]
            if BY_PRODUCT:
                distance = (part**2).sum(axis=1) - 2 * some @ part.T
            else:
                distance = ((some[:, None, :] - part[None, :, :]) ** 2).sum(axis=2)
            place = distance.argmin(axis=1)
            least = distance[np.arange(len(some)), place]
            nearer = least < best
            best[nearer] = least[nearer]
            found[start : start + BLOCK][nearer] = first + place[nearer]
    return found
