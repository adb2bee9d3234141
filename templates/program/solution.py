"""The program to improve: put yours in its place. The evaluator calls its functions by name."""

SLOPE = 1.0  # what a case is multiplied by [0.1, 10]


def answer(case: float) -> float:
    """Return the answer to one case."""
    return SLOPE * case
