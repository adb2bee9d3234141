"""Plays games of gems against scripted rivals, who move at the same time; new gems appear as others are taken.

A case is one game of 40 moves on a grid of 11 by 11 squares. Its score is 1 for a win, 0.5 for a draw, 0 for a loss.
Rivals are of three kinds: one goes to the nearest gem, one to the best points for a step, one stays near the middle.

Hidden:
Test games are on larger grids with fewer gems, and the best rival comes more often.
"""

import random

from autoresearch.task import Candidate, Score, WrongAnswerError

GAMES, NUM_MOVES = 200, 40
MOVES = ((0, 0), (0, -1), (0, 1), (1, 0), (-1, 0))


def steps(here: list, there: list) -> int:
    """Return the number of moves between two squares."""
    return abs(here[0] - there[0]) + abs(here[1] - there[1])


class Game:
    """One game; what will appear where is drawn beforehand."""

    def __init__(self, seed: str, split: str) -> None:
        draw = random.Random(seed)
        is_test = split == "test"
        self.size, self.num_gems = (13, 5) if is_test else (11, 6)
        self.kind = draw.choice(
            ("near", "best", "middle", "best") if is_test else ("near", "best", "middle")
        )
        self.coming = [
            [draw.randrange(self.size), draw.randrange(self.size), draw.choice((1, 1, 2, 4, 8))]
            for _ in range(200)
        ]
        self.players = [[1, 1], [self.size - 2, self.size - 2]]
        self.points = [0, 0]
        self.gems = [self.coming.pop() for _ in range(self.num_gems)]

    def state(self, left: int) -> dict:
        """Return what the player sees."""
        return {
            "me": self.players[0],
            "rival": self.players[1],
            "gems": self.gems,
            "size": self.size,
            "moves_left": left,
            "points": self.points,
        }

    def rival(self) -> int:
        """Return the rival's move."""
        me = self.players[1]
        middle = [self.size // 2, self.size // 2]
        if self.kind == "near":
            goal = min(self.gems, key=lambda g: steps(me, g))
        elif self.kind == "best":
            goal = max(self.gems, key=lambda g: g[2] / (1 + steps(me, g)))
        else:
            goal = min(self.gems, key=lambda g: steps(me, g) + 0.7 * steps(middle, g))
        return min(range(5), key=lambda m: steps([me[0] + MOVES[m][0], me[1] + MOVES[m][1]], goal))

    def play(self, mine: int) -> None:
        """Move both and hand out the gems under them; a gem that both reach goes to neither."""
        for player, number in ((0, mine), (1, self.rival())):
            place = self.players[player]
            for axis in (0, 1):
                place[axis] = min(max(place[axis] + MOVES[number][axis], 0), self.size - 1)
        for gem in list(self.gems):
            here = [p for p in (0, 1) if self.players[p] == gem[:2]]
            if here:
                self.gems.remove(gem)
                self.gems.append(self.coming.pop())
            if len(here) == 1:
                self.points[here[0]] += gem[2]


def evaluate(candidate: Candidate, seed: int, split: str) -> Score:
    """Return the outcome of each game."""
    games = [Game(f"{seed} {split} {number}", split) for number in range(GAMES)]
    for turn in range(NUM_MOVES):
        answers = candidate.call("move_all", [game.state(NUM_MOVES - turn) for game in games])
        if len(answers) != GAMES or any(type(a) is not int or not 0 <= a < 5 for a in answers):
            raise WrongAnswerError("a move from 0 to 4 of each game is wanted")
        for game, answer in zip(games, answers, strict=True):
            game.play(answer)
    return Score(
        [0.5 + 0.5 * ((g.points[0] > g.points[1]) - (g.points[0] < g.points[1])) for g in games]
    )
