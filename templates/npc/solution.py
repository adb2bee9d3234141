"""A player of a game of gems: two players on a grid take gems of 1 to 8 points; whoever has more at the end wins."""

MOVES = ((0, 0), (0, -1), (0, 1), (1, 0), (-1, 0))  # stay, north, south, east, west

VALUE = 0.0  # how much the points of a gem count, as an exponent [0, 3]
DISTANCE = 1.0  # how much the steps to a gem count, as an exponent [0.2, 4]
RIVAL = 0.0  # what is taken off a gem that the rival reaches first, a share of it [0, 1]
CROWD = 0.0  # what gems beside a gem add to it, a share of theirs [0, 1]


def steps(here: list, there: list) -> int:
    """Return the number of moves between two squares."""
    return abs(here[0] - there[0]) + abs(here[1] - there[1])


def worth(gem: list, state: dict) -> float:
    """Return how attractive a gem is from here."""
    mine, theirs = steps(state["me"], gem), steps(state["rival"], gem)
    value = gem[2] ** VALUE
    for other in state["gems"]:
        if other is not gem:
            value += CROWD * other[2] ** VALUE / (1 + steps(gem, other)) ** 2
    if theirs < mine:
        value *= 1 - RIVAL
    return value / (1 + mine) ** DISTANCE


def move(state: dict) -> int:
    """Return the number of a move.

    Args:
        state: `me` and `rival`, squares [x, y]; `gems`, each [x, y, points]; `size` of the grid; `moves_left`; `points`
            of both.
    """
    if not state["gems"]:
        return 0
    gem = max(state["gems"], key=lambda gem: worth(gem, state))
    return min(
        range(len(MOVES)),
        key=lambda m: steps([state["me"][0] + MOVES[m][0], state["me"][1] + MOVES[m][1]], gem),
    )


def move_all(states: list[dict]) -> list[int]:
    """Return the moves of many games at once."""
    return [move(state) for state in states]
