"""Divides a shop's visitors between five prices, day by day, to earn most. `divide_all` is called once for each day."""

EXPLORE = 0.9  # share of the visitors that is divided evenly between the prices [0, 1]
DECAY = 1.0  # weight of yesterday's sales against today's [0.7, 1]
DOUBT = 0.0  # how much is added to a price that was seldom tried, in standard errors [0, 3]


def divide(shop: dict) -> list[float]:
    """Return the share of today's visitors that sees each price; shares add up to 1.

    Args:
        shop: `prices`; `days`, one for each day so far: [visitors of each price, buyers of each price]; `days_left`.
    """
    prices = shop["prices"]
    visitors, buyers = [1.0] * len(prices), [0.3] * len(prices)
    for seen, bought in shop["days"]:
        for i in range(len(prices)):
            visitors[i] = DECAY * visitors[i] + seen[i]
            buyers[i] = DECAY * buyers[i] + bought[i]
    worth = []
    for price, seen, bought in zip(prices, visitors, buyers, strict=True):
        rate = bought / seen
        worth.append(price * (rate + DOUBT * (rate * (1 - rate) / seen) ** 0.5))
    best = worth.index(max(worth))
    return [EXPLORE / len(prices) + (1 - EXPLORE) * (i == best) for i in range(len(prices))]


def divide_all(shops: list[dict]) -> list[list[float]]:
    """Return the shares of many shops, each of which knows nothing of the others."""
    return [divide(shop) for shop in shops]
