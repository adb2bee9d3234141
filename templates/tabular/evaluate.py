"""Tables with eight columns, some without influence, and a column to predict, all made up afresh for each trial.

A case is one table of 250 rows and 250 queries. Its score is the root mean square error, as a share of the deviation of
what is to be predicted: 1 is no better than the mean. Influences are steps, curves and products; values are missing,
some are absurd, and the target is noisy.

Hidden:
Test tables have 150 rows, more noise and more absurd values.
"""

import numpy as np

from autoresearch.task import Candidate, Score, WrongAnswerError

TABLES, COLUMNS = 24, 8


def table(
    draw: np.random.Generator, num: int, noise: float, absurd: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return columns, noisy target and true target of a table."""
    x = draw.standard_normal((num, COLUMNS))
    use = draw.permutation(COLUMNS)
    true = draw.uniform(0.5, 1.5) * x[:, use[0]]
    true += draw.uniform(0.5, 1.5) * (x[:, use[1]] > draw.uniform(-0.7, 0.7))
    true += draw.uniform(0.4, 1.2) * x[:, use[2]] * x[:, use[3]]
    true += draw.uniform(0.3, 1.0) * np.sin(2 * x[:, use[4]])
    true += draw.uniform(0.2, 0.6) * x[:, use[0]] ** 2
    target = true + noise * true.std() * draw.standard_normal(num)
    x = x * draw.uniform(0.2, 30, COLUMNS) + draw.uniform(-50, 50, COLUMNS)
    x = np.where(draw.random(x.shape) < absurd, x * 25, x)
    return np.where(draw.random(x.shape) < 0.03, np.nan, x), target, true


def evaluate(candidate: Candidate, seed: int, split: str) -> Score:
    """Return the relative error of each table."""
    draw = np.random.default_rng([seed, split == "test"])
    is_test = split == "test"
    num = 150 if is_test else 250
    scores = []
    for _ in range(TABLES):
        noise = draw.uniform(0.2, 0.6) * (1.3 if is_test else 1.0)
        x, target, true = table(draw, num + 250, noise, 0.02 if is_test else 0.01)
        found = candidate.call("fit_predict", x[:num], target[:num], x[num:])
        if not isinstance(found, np.ndarray) or found.shape != (250,):
            raise WrongAnswerError("a number for each query is wanted")
        error = np.clip(found - true[num:], -1e6, 1e6)
        scores.append(float(np.sqrt((error**2).mean()) / true[num:].std()))
    return Score(scores)
