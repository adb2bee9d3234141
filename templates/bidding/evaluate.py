"""Campaigns buy impressions in second-price auctions, 48 half hours of 24 impressions a day, until the budget is gone.

A case is one campaign's day. Its score is the value won, as a share of what the best constant bid per value would have
won, known afterwards. The price of an impression is paid whether its real value was above or below the prediction.
Competition and the flow of impressions change over the day; a campaign's budget is not known to be tight or loose.

Hidden:
Test days have a later peak, tighter budgets and competition that drifts, so a plan fitted to the usual day falls short.
"""

import math
import random

from autoresearch.task import Candidate, Score, WrongAnswerError

CASES, HALF_HOURS, IMPRESSIONS = 48, 48, 24


class Campaign:
    """One campaign's day, drawn beforehand."""

    def __init__(self, draw: random.Random, split: str) -> None:
        is_test = split == "test"
        peak = draw.uniform(0.5, 0.8) + 0.12 * is_test
        height, drift = draw.uniform(0.3, 1.2), draw.uniform(-0.3, 0.5) * (1 + is_test)
        level = draw.uniform(-0.3, 0.4)
        self.halves = []
        for half in range(HALF_HOURS):
            day = half / HALF_HOURS
            pressure = level + drift * day + height * math.exp(-(((day - peak) / 0.12) ** 2))
            rows = []
            for _ in range(IMPRESSIONS):
                value = math.exp(draw.gauss(-0.18, 0.6))
                real = value * math.exp(draw.gauss(-0.08, 0.4))
                price = math.exp(0.35 * math.log(value) + pressure + draw.gauss(-0.4, 0.5))
                rows.append((value, real, price))
            self.halves.append(rows)
        everything = [row for rows in self.halves for row in rows]
        share = draw.uniform(0.08, 0.3) * (0.8 if is_test else 1.0)
        self.budget = share * sum(price for _, _, price in everything)
        self.left, self.won, self.prices = self.budget, 0.0, []
        self.best = max(self._constant(everything, 0.15 * 1.12**i) for i in range(32))

    def _constant(self, rows: list, factor: float) -> float:
        left, won = self.budget, 0.0
        for value, real, price in rows:
            if price < factor * value and price <= left:
                left -= price
                won += real
        return won

    def state(self, half: int) -> dict:
        """Return what the bidder knows before it bids."""
        return {
            "day_passed": half / HALF_HOURS,
            "budget_left": self.left / self.budget,
            "values": [value for value, _, _ in self.halves[half]],
            "prices": self.prices,
        }

    def auction(self, half: int, bids: list[float]) -> None:
        """Sell the impressions of half an hour."""
        rows = self.halves[half]
        if len(bids) != len(rows):
            raise WrongAnswerError("a bid for each impression is wanted")
        for (_, real, price), bid in zip(rows, bids, strict=True):
            if bid > price and price <= self.left:
                self.left -= price
                self.won += real
        self.prices = [price for _, _, price in rows]


def evaluate(candidate: Candidate, seed: int, split: str) -> Score:
    """Return the share of the best constant bid that each campaign won."""
    draw = random.Random(f"{seed} {split}")
    campaigns = [Campaign(draw, split) for _ in range(CASES)]
    for half in range(HALF_HOURS):
        answers = candidate.call("bid_all", [c.state(half) for c in campaigns])
        if len(answers) != CASES:
            raise WrongAnswerError("bids of each campaign are wanted")
        for campaign, bids in zip(campaigns, answers, strict=True):
            campaign.auction(half, bids)
    return Score(
        [c.won / c.best for c in campaigns],
        figures={"budget_left": [c.left / c.budget for c in campaigns]},
    )
