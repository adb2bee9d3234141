"""Shops with unknown demand show each visitor one of five prices for 40 days of about 60 visitors.

A case is one shop. Its score is what it earned on average, before luck of single visitors, as a share of what the best
price of each day would have earned. Demand falls with the price, differently in each shop, and moves slowly.

Hidden:
In test shops demand moves faster, and there are fewer visitors.
"""

import math
import random

from autoresearch.task import Candidate, Score, WrongAnswerError

SHOPS, DAYS = 80, 40


class Shop:
    """One shop; its demand on every day is drawn beforehand."""

    def __init__(self, seed: str, split: str) -> None:
        self.draw = random.Random(seed)
        is_test = split == "test"
        self.visitors = 40 if is_test else 60
        self.prices = sorted(round(self.draw.uniform(4, 20), 2) for _ in range(5))
        middle, slope = self.draw.uniform(6, 16), self.draw.uniform(0.25, 0.8)
        level, self.rates = self.draw.uniform(0.2, 0.7), []
        for _ in range(DAYS):
            middle += self.draw.gauss(0, 0.35 if is_test else 0.15)
            self.rates.append([level / (1 + math.exp(slope * (p - middle))) for p in self.prices])
        self.days: list[list[list[int]]] = []
        self.earned = self.best = 0.0

    def state(self) -> dict:
        """Return what the shop knows."""
        return {"prices": self.prices, "days": self.days, "days_left": DAYS - len(self.days)}

    def day(self, shares: list[float]) -> None:
        """Let one day pass."""
        if len(shares) != 5 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise WrongAnswerError("five shares that add up to 1 are wanted")
        rates = self.rates[len(self.days)]
        worth = [price * rate for price, rate in zip(self.prices, rates, strict=True)]
        self.earned += sum(share * w for share, w in zip(shares, worth, strict=True))
        self.best += max(worth)
        shown = self.draw.choices(range(5), weights=shares, k=self.visitors)
        seen, bought = [0] * 5, [0] * 5
        for i in shown:
            seen[i] += 1
            bought[i] += self.draw.random() < rates[i]
        self.days.append([seen, bought])


def evaluate(candidate: Candidate, seed: int, split: str) -> Score:
    """Return the share of the best earnings that each shop reached."""
    shops = [Shop(f"{seed} {split} {number}", split) for number in range(SHOPS)]
    for _ in range(DAYS):
        answers = candidate.call("divide_all", [shop.state() for shop in shops])
        if len(answers) != SHOPS:
            raise WrongAnswerError("shares of each shop are wanted")
        for shop, shares in zip(shops, answers, strict=True):
            shop.day(shares)
    return Score([shop.earned / shop.best for shop in shops])
