"""How fast `search` finds better constants on made-up landscapes: `python bench/search_proposer.py [TRIALS] [SEEDS]`.

val_bpb is a bowl over the constants of templates/gpt/train.py with its bottom away from the template's values, some
coupling between learning rates and batch, cliffs where memory would run out, and noise by seed. In a second table the
bowl is lopsided: a straight slope on one side, steep and then flat on the other. Only the proposer is real; a change is
kept when it looks better by one standard deviation of the noise. Reported is the TRUE gain of the incumbent, for the
proposer and for steps drawn at random from the same ranges.
"""

import math
import random
import statistics
import sys
import threading
from pathlib import Path

import optuna

from autoresearch.proposer import edits
from autoresearch.proposer.base import Context
from autoresearch.proposer.search import constants
from autoresearch.proposer.search import ranges as space
from autoresearch.proposer.search.proposer import SearchProposer
from autoresearch.types import Experiment, Outcome, Session, State, Trial, TrialResult, Verdict

TEMPLATE = Path(__file__).parents[1] / "templates" / "gpt" / "train.py"
NOISE = 0.0005
BASE = 1.0


def place(r: space.Range, value: float) -> float:
    """Return a coordinate in which a notch means about the same anywhere."""
    if r.scale == "choices":
        return float(r.choices.index(value))
    if r.scale == "momentum":
        return -math.log2(1 - value)
    if r.scale == "soft":
        return math.log2(1 + value / (r.constant.value / 2))
    return math.log2(value) if r.scale in ("log", "octaves") else float(value)


class Landscape:
    """A bowl in coordinates of notches, its bottom drawn by seed."""

    def __init__(self, text: str, seed: int, is_lopsided: bool) -> None:
        rng = random.Random(seed)
        self.is_lopsided = is_lopsided
        program = constants.parse(text)
        found = {c.name: space.find_range(c) for c in program.constants}
        self.ranges = {k: r for k, r in found.items() if r is not None}
        self.start = {k: place(r, r.constant.value) for k, r in self.ranges.items()}
        self.bottom = {k: rng.gauss(0, 0.8) for k in self.ranges}
        self.weight = {k: 0.004 * rng.paretovariate(1.2) / 4 for k in self.ranges}

    def true(self, text: str) -> float | None:
        """Return the noiseless val_bpb of a program; None is out of memory."""
        values = constants.parse(text).values()
        total, memory, offsets = BASE, 0.0, {}
        for name, r in self.ranges.items():
            x = (place(r, values[name]) - self.start[name]) / r.notch
            offsets[name] = x
            away = x - self.bottom[name]
            height = away**2
            if self.is_lopsided:
                height = -away if away < 0 else min(1.5 * away**2, 2.0)
            total += min(self.weight[name], 0.02) * height
            if any(word in name for word in ("ROWS", "WIDTH", "DEPTH", "CONTEXT")):
                memory += x
        rates = [x for name, x in offsets.items() if name.endswith("_LR")]
        batch = offsets.get("ROWS", 0.0) + offsets.get("ACCUMULATE", 0.0)
        total += 0.001 * (sum(rates) / max(1, len(rates)) - 0.5 * batch) ** 2
        return None if memory > 2.5 else total


def propose_randomly(context: Context, rng: random.Random) -> tuple[str, dict[str, float]]:
    """Return a program with one constant drawn by Optuna's random sampler from its range."""
    path = next(iter(context.files))
    program = constants.parse(context.files[path])
    ranges = [r for c in program.constants if (r := space.find_range(c)) is not None]
    while True:
        r = rng.choice(ranges)
        name = r.constant.name
        sampler = optuna.samplers.RandomSampler(seed=rng.randrange(2**31))
        study = optuna.create_study(sampler=sampler)
        value = r.decode(study.ask({name: r.distribution}).params[name])
        if value != r.constant.value and program.broken({name: value}) is None:
            return constants.replace(program, {name: value}), {name: value}


def night(text: str, seed: int, num: int, is_search: bool, is_lopsided: bool) -> list[float]:
    """Return the true gain of the incumbent after each trial."""
    land, rng = Landscape(text, seed, is_lopsided), random.Random(seed + 1)
    start = land.true(text)
    assert start is not None
    done = [experiment(0, Verdict.KEEP, start, {}, "")]
    current, parent, tried, gains = text, "0", {}, []
    for number in range(1, num + 1):
        session = Session("t", "b", experiments=tuple(done), seed=seed)
        context = Context(
            session, number, parent, {"train.py": current}, "", 900, 300.0, tried=tried
        )
        if is_search:
            p = SearchProposer().propose(context, threading.Event())
            after, changes = p.files["train.py"], dict(p.parameters)
        else:
            after, changes = propose_randomly(context, rng)
        tried[edits.identity({"train.py": after})] = number
        score, best = land.true(after), done[int(parent)].score
        assert best is not None
        if score is None:
            verdict, measured = Verdict.CRASH, None
        else:
            measured = score + rng.gauss(0, NOISE)
            verdict = Verdict.KEEP if measured < best - NOISE else Verdict.DISCARD
        done.append(experiment(number, verdict, measured, changes, parent))
        if verdict is Verdict.KEEP:
            current, parent = after, str(number)
        true = land.true(current)
        assert true is not None
        gains.append(true - start)
    return gains


def experiment(
    number: int, verdict: Verdict, score: float | None, changes: dict[str, float], parent: str
) -> Experiment:
    """Return a judged experiment as the record would hold it."""
    outcome = Outcome.OK if score is not None else Outcome.CRASH
    trial = Trial(TrialResult(seed=1, outcome=outcome, score=score), "", "", "")
    return Experiment(
        number=number,
        commit=str(number),
        parent=parent,
        state=State.JUDGED,
        description="",
        proposer="search",
        verdict=verdict,
        parameters=changes,
        trials=(trial,),
    )


def main() -> None:
    """Print the table."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    num = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    # The constants alone: parsing all of the file for each of thousands of proposals takes minutes.
    text = TEMPLATE.read_text(encoding="utf-8").partition("# ----")[0]
    marks = [n for n in (5, 10, 20, 50, 100, 200) if n <= num]
    for is_lopsided in (False, True):
        shape = "lopsided landscapes" if is_lopsided else "bowls"
        print(f"true gain of the incumbent in score, mean over {seeds} {shape}")
        print(f"{'':8}" + "".join(f"{f'after {n}':>12}" for n in marks))
        for label, is_search in (("search", True), ("random", False)):
            nights = [night(text, seed, num, is_search, is_lopsided) for seed in range(seeds)]
            means = [statistics.mean(gains[n - 1] for gains in nights) for n in marks]
            print(f"{label:8}" + "".join(f"{mean:>+12.5f}" for mean in means))


if __name__ == "__main__":
    main()
