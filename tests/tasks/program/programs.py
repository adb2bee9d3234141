"""Small programs and evaluators, and settings for them."""

from typing import Any

from autoresearch.config import Config

EVALUATE = """
from autoresearch.task import Candidate, Score

def evaluate(candidate, seed, split):
    return Score([abs(candidate.call("square", n) - n * n) for n in (2, 3, seed % 1000)])
"""
HONEST = "def square(n):\n    return n * n\n"


def settings(**changes: Any) -> Config:
    """Return settings of a program; `changes` are of `[task]`, or of another section by `section__name`."""
    values = Config().model_dump()
    values["task"] |= {"kind": "program", "editable": ["solution.py"], "direction": "minimize"}
    values["trial"] |= {"device": "cpu", "budget_seconds": 20.0, "startup_seconds": 30.0}
    for name, value in changes.items():
        section, _, key = name.rpartition("__")
        values[section or "task"][key] = value
    return Config.model_validate(values)
