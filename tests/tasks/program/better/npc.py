"""Goes where points a step are best, counts what lies around, and leaves to the rival what it reaches first."""

MOVES = ((0, 0), (0, -1), (0, 1), (1, 0), (-1, 0))


def steps(a, b):
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def worth(gem, state):
    mine, theirs = steps(state["me"], gem), steps(state["rival"], gem)
    if mine > state["moves_left"]:
        return 0.0
    around = sum(g[2] / (1 + steps(gem, g)) ** 1.5 for g in state["gems"] if g is not gem)
    value = gem[2] + 0.5 * around
    if theirs < mine:
        value *= 0.3
    return value / (0.5 + mine)


def move(state):
    gem = max(state["gems"], key=lambda gem: worth(gem, state))
    return min(
        range(5),
        key=lambda m: steps([state["me"][0] + MOVES[m][0], state["me"][1] + MOVES[m][1]], gem),
    )


def move_all(states):
    return [move(state) for state in states]
