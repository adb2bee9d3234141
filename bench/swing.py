"""What the keep rule finds on a machine whose pace changes: simulated nights through the package's own rule and filter.

    python bench/swing.py                              # 60 nights of each kind, minutes of one core
    python bench/swing.py --machines telegraph --nights 200
    python bench/swing.py --world A/A                  # nothing to find: what is kept is false

Each night has a baseline of three trials and 100 trials more, spent as a session spends them: candidates, re-tests, the
incumbent again. `blind` is the same rule without the counters of what others take. A gain is true at the usual pace,
that of the first trial. Deterministic in `--seed`.
"""

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from autoresearch.config import DecisionConfig
from autoresearch.decision import rule
from autoresearch.decision.scores import LOAD, trial_seed
from autoresearch.types import (
    Decision,
    Experiment,
    Outcome,
    Purpose,
    Session,
    Setup,
    State,
    Trial,
    TrialResult,
    Verdict,
)

NUM_TRIALS = 100
NOISE = 0.0005
GAINS, NOTHINGS, GAIN, HARM = 0.10, 0.20, 0.001, 0.0012
SLOPE = 0.05
"""What a whole machine's pace (log) is worth on average over nights: 1 % is one standard deviation of the noise."""
UNALIKE = 0.1
"""Relative standard deviation of the slopes of different programs."""
TAKEN = 0.1
"""Share of the machine that others have at the usual pace."""
MACHINES = ("quiet", "walk", "telegraph", "heavy")
"""A pace that stays; that wanders by 2 %; that is 15 % lower for stretches of ten trials; one from which every second
idea takes 2 % by its own doing."""
SETUP = Setup("g", "t", "d", 300.0, "x", "1", 8, 9)


def paces(machine: str, chance: np.random.Generator) -> np.ndarray:
    """Return the log of what others leave at each trial, the usual one 0."""
    number = NUM_TRIALS + 10
    pace = np.zeros(number)
    if machine == "walk":
        for n in range(1, number):
            pace[n] = 0.9 * pace[n - 1] + 0.02 * np.sqrt(1 - 0.9**2) * chance.standard_normal()
    elif machine == "telegraph":
        pace = np.log1p(-0.15) * (np.cumsum(chance.random(number) < 0.1) % 2)
    return pace - pace[0]


@dataclass
class Program:
    """What is true of one version."""

    level: float
    slope: float


@dataclass
class Found:
    """What a night came to."""

    gain: float = 0.0
    keeps: int = 0
    false_keeps: int = 0
    gains_met: int = 0
    gains_kept: int = 0
    reopened: int = 0
    ideas: int = 0
    spent: Counter[str] = field(default_factory=Counter)


class Night:
    """One session whose trials are drawn."""

    def __init__(self, seed: int, machine: str, world: str, *, is_blind: bool) -> None:
        self.chance = np.random.default_rng([seed, MACHINES.index(machine)])
        self.pace = paces(machine, self.chance)
        self.machine, self.is_blind = machine, is_blind
        self.is_empty = world == "A/A"
        self.ideas = np.random.default_rng(seed)
        slope = -SLOPE * np.exp(0.3 * self.chance.standard_normal())
        self.common = 0.0 if machine == "quiet" else slope
        self.programs = {0: Program(1.0, self.common)}
        self.experiments: dict[int, Experiment] = {}
        self.tag = f"{seed}-{machine}-{world}-{is_blind}"
        self.place, self.spent, self.best = 0, 0, 0
        self.found = Found()
        self.config = DecisionConfig()

    def session(self) -> Session:
        """The record so far."""
        experiments = tuple(self.experiments.values())
        journal = f"j{self.place}"
        return Session(
            tag=self.tag,
            branch="b",
            tip=f"c{self.best}",
            experiments=experiments,
            setup=SETUP,
            best=self.best,
            journal=journal,
        )

    def run(self) -> Found:
        """Spend all trials."""
        self.experiments[0] = self.proposed(0, "c0")
        for _ in range(3):
            self.trial(0, Purpose.BASELINE)
        self.judge(0, Decision("keep", "baseline", num_trials=3))
        self.spent = 0
        while self.spent < NUM_TRIALS:
            self.step()
        self.found.gain = 1.0 - self.programs[self.best].level
        return self.found

    def step(self) -> None:
        session = self.session()
        if rule.is_sentinel_due(session):
            self.trial(self.best, Purpose.INCUMBENT)
            return
        again = rule.due_again(session)
        if again:
            number, doubt = next(iter(again.items()))
            self.place += 1
            wronged = self.experiments[number]
            doubt = replace(doubt, judged_place=wronged.judged_place, place=self.place)
            changes = {"state": State.RUNNING, "verdict": None, "judged_place": 0, "doubt": doubt}
            self.experiments[number] = replace(wronged, **changes)
            self.found.reopened += 1
            self.decide_on(number, Purpose.RETEST)
            return
        number, before = len(self.experiments), self.programs[self.best]
        effect = self.effect()
        slope = self.common * (1 + UNALIKE * self.ideas.standard_normal())
        self.programs[number] = Program(before.level + effect, slope)
        self.experiments[number] = self.proposed(number, self.experiments[self.best].commit)
        self.found.ideas += 1
        self.found.gains_met += effect < -NOISE
        self.decide_on(number, Purpose.CANDIDATE)

    def decide_on(self, number: int, purpose: Purpose) -> None:
        """Run an idea to its verdict."""
        self.trial(number, purpose)
        while True:
            session = self.session()
            candidate, incumbent = self.experiments[number], self.experiments[self.best]
            decision = rule.decide(candidate, incumbent, session, self.config)
            if self.spent >= NUM_TRIALS:
                break
            if rule.is_incumbent_due(decision, candidate, incumbent, session):
                self.trial(self.best, Purpose.INCUMBENT)
            elif decision.action == "retest":
                self.trial(number, Purpose.RETEST)
            else:
                break
        kept = decision.action == "keep"
        self.judge(number, replace(decision, action="keep" if kept else "discard"))
        effect = self.programs[number].level - self.programs[self.best].level
        self.found.keeps += kept
        self.found.false_keeps += kept and effect >= 0
        self.found.gains_kept += kept and effect < -NOISE
        if kept:
            self.best = number

    def effect(self) -> float:
        """Draw an idea's true effect, with what it does to its own machine."""
        u, size = self.ideas.random(), self.ideas.exponential()
        if self.machine == "heavy" and self.ideas.random() < 0.5:
            return -self.common * 0.02 + (HARM * size if not self.is_empty else 0.0)
        if self.is_empty or GAINS <= u < GAINS + NOTHINGS:
            return 0.0
        return -GAIN * size if u < GAINS else HARM * size

    def proposed(self, number: int, parent: str) -> Experiment:
        return Experiment(
            number=number,
            commit=f"c{number}",
            parent=parent if number else "",
            description="",
            proposer="search" if number else "baseline",
            state=State.RUNNING,
            setup=SETUP.key,
        )

    def trial(self, number: int, purpose: Purpose) -> None:
        experiment, program = self.experiments[number], self.programs[number]
        pace = self.pace[
            min(self.spent + 3 * (purpose is not Purpose.BASELINE), len(self.pace) - 1)
        ]
        score = program.level + program.slope * pace + NOISE * self.chance.standard_normal()
        seed = trial_seed(0, len(experiment.trials))
        share = 1 - (1 - TAKEN) * float(np.exp(pace))
        extra = {} if self.is_blind else {LOAD: {"stolen": 0.0, "others": share}}
        self.place += 1
        result = TrialResult(seed=seed, outcome=Outcome.OK, score=float(score), extra=extra)
        event = f"{self.tag}-{self.place}"
        more = Trial(result, SETUP.key, "", event, purpose=purpose, place=self.place)
        self.experiments[number] = replace(experiment, trials=(*experiment.trials, more))
        self.spent += 1
        self.found.spent[purpose] += 1

    def judge(self, number: int, decision: Decision) -> None:
        self.place += 1
        self.experiments[number] = replace(
            self.experiments[number],
            state=State.JUDGED,
            verdict=Verdict(decision.action),
            decision=decision,
            judged_place=self.place,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--world", choices=("fitted", "A/A"), default="fitted")
    parser.add_argument("--machines", default=",".join(MACHINES))
    options = parser.parse_args()
    begun = time.monotonic()
    print(
        "| machine | rule | true gain | keeps | false | gains > noise missed | ideas | incumbent runs | tried again |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for machine in options.machines.split(","):
        for is_blind in (False, True):
            nights = [
                Night(options.seed * 100_000 + n, machine, options.world, is_blind=is_blind).run()
                for n in range(options.nights)
            ]
            gains = np.array([n.gain for n in nights])
            keeps = sum(n.keeps for n in nights)
            met = max(sum(n.gains_met for n in nights), 1)
            cells = [
                machine,
                "blind" if is_blind else "sees it",
                f"{gains.mean():.5f} +- {gains.std() / np.sqrt(len(gains)):.5f}",
                f"{keeps / len(nights):.2f}",
                f"{sum(n.false_keeps for n in nights) / max(keeps, 1):.1%}",
                f"{1 - sum(n.gains_kept for n in nights) / met:.1%}",
                f"{np.mean([n.ideas for n in nights]):.1f}",
                f"{np.mean([n.spent[Purpose.INCUMBENT] for n in nights]):.1f}",
                f"{np.mean([n.reopened for n in nights]):.1f}",
            ]
            print("| " + " | ".join(cells) + " |", flush=True)
    print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
