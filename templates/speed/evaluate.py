"""Times `nearest` by the lab's clock on fresh points in each call, and checks every answer.

A case is one size and shape of problem: 200 to 1,000 points, as many queries, spread out or in clumps. Its score is the
logarithm (base 2) of the milliseconds of the fastest of five calls: 1 less is twice as fast.

Hidden:
Test problems are larger and clumpier.
"""

import math

import numpy as np

from autoresearch.task import Candidate, Score, WrongAnswerError

CASES, CALLS = 8, 5


def problem(draw: np.random.Generator, num: int, clump: float) -> np.ndarray:
    """Return points in the plane, all over it where `clump` is 0."""
    centres = draw.random((5, 2))
    some = centres[draw.integers(0, 5, num)] + 0.03 * draw.standard_normal((num, 2))
    return np.where(draw.random((num, 1)) < clump, some, draw.random((num, 2)))


def check(points: np.ndarray, queries: np.ndarray, found: object) -> None:
    """Refuse an answer that is not the index of the nearest point of each query."""
    if (
        not isinstance(found, np.ndarray)
        or found.shape != (len(queries),)
        or found.dtype.kind not in "iu"
    ):
        raise WrongAnswerError("whole numbers, one for each query, are wanted")
    if found.min() < 0 or found.max() >= len(points):
        raise WrongAnswerError("an index is out of range")
    theirs = ((queries - points[found]) ** 2).sum(axis=1)
    squares, best = (points**2).sum(axis=1), np.empty(len(queries))
    for start in range(0, len(queries), 128):
        some = queries[start : start + 128]
        products = squares - 2 * some @ points.T
        best[start : start + 128] = products.min(axis=1) + (some**2).sum(axis=1)
    if (theirs > best + 1e-9).any():
        raise WrongAnswerError("a point is not the nearest")


def evaluate(candidate: Candidate, seed: int, split: str) -> Score:
    """Return the logarithm of the least time of each case."""
    draw = np.random.default_rng([seed, split == "test"])
    scores = []
    for case in range(CASES):
        num = int(200 * 5 ** (case / (CASES - 1)) * (1.5 if split == "test" else 1.0))
        clump = draw.uniform(0.0, 0.6) + 0.3 * (split == "test")
        taken = []
        for _ in range(CALLS):
            points, queries = problem(draw, num, clump), problem(draw, num, clump)
            found = candidate.call("nearest", points, queries)
            taken.append(candidate.seconds)
            check(points, queries, found)
        scores.append(math.log2(1000 * min(taken)))
    return Score(scores)
