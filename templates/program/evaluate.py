"""What agents may know of how the program is scored: put your words, and your evaluator, in the place of these.

A case is a number. Its score is how far the answer is from what was wanted.

Hidden:
What is written from this line on no agent reads. Three times the case is wanted.
"""

import random

from autoresearch.task import Candidate, Score


def evaluate(candidate: Candidate, seed: int, split: str) -> Score:
    """Return the score of each case, drawn by `seed`, others where `split` is "test"."""
    draw = random.Random(f"{seed} {split}")
    cases = [draw.gauss(0.0, 1.0) for _ in range(50)]
    return Score([abs(candidate.call("answer", case) - 3.0 * case) for case in cases])
