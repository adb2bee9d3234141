"""Bids for ads in second-price auctions under a daily budget. `bid_all` is called once for each half hour of a day."""

import math

BID_PER_VALUE = 1.0  # what is bid for an impression, as a multiple of its predicted value [0.05, 3]
PACING = 0.0  # how much bids fall when money is spent faster than the day passes [0, 8]
EVENING = 1.0  # bids after 6 pm against those before [0.3, 3]
CAP = 20.0  # highest bid for one impression, in average values [0.5, 50]


def bid(state: dict) -> list[float]:
    """Return a bid for each impression of this half hour.

    Args:
        state: `day_passed` from 0 to 1; `budget_left`, a share of the day's budget; `values`, the predicted value of
            each impression; `prices`, what the impressions of the last half hour went for.
    """
    spent = 1.0 - state["budget_left"]
    factor = BID_PER_VALUE * math.exp(-PACING * (spent - state["day_passed"]))
    if state["day_passed"] > 0.75:
        factor *= EVENING
    return [min(factor * value, CAP) for value in state["values"]]


def bid_all(states: list[dict]) -> list[list[float]]:
    """Return the bids of many campaigns, each of which knows nothing of the others."""
    return [bid(state) for state in states]
