"""Real trials of true no-ops: how many does each policy keep?

    python bench/no_ops.py [--count 20] [--seconds 10] [--preset demo] [--trials no_ops.json]
    python bench/no_ops.py --pairs 12 --seconds 5     # how much luck belongs to the seed?

Trains the template on `builtin:python`, then as many copies of it in which only a comment was added or a local
variable renamed, each judged like any candidate. Every policy then decides over the same trials; where one asks for
a re-test, that trial is run too. Every keep is false. With `--trials` the scores are kept in a file and a second
call continues from there. With `--pairs N` the template and a copy with another learning rate are trained on the same N
seeds instead; the correlation of their scores is the share of the luck that belongs to the seed.
"""

import argparse
import ast
import io
import itertools
import json
import keyword
import math
import re
import sys
import tempfile
import tokenize
from dataclasses import replace
from pathlib import Path

import numpy as np

from autoresearch.bootstrap.scaffold import scaffold
from autoresearch.config import load_config
from autoresearch.decision.belief import measure_noise
from autoresearch.decision.rule import decide, is_incumbent_due
from autoresearch.decision.scores import trial_seed
from autoresearch.session.build import Lab, assemble
from autoresearch.tasks.gpt.data.prepare import prepare
from autoresearch.types import (
    Decision,
    Experiment,
    Outcome,
    Session,
    State,
    Trial,
    TrialResult,
    TrialSpec,
    Verdict,
)

BASELINE_TRIALS = 3


def local_names(text: str) -> list[str]:
    """Local variables that occur as nothing else: no parameter, keyword, attribute or global."""
    tree = ast.parse(text)
    taken = set(keyword.kwlist)
    assigned: dict[str, int] = {}
    for node in ast.walk(tree):
        if (isinstance(node, ast.keyword) and node.arg) or isinstance(node, ast.arg):
            taken.add(node.arg)
        elif isinstance(node, ast.Attribute):
            taken.add(node.attr)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            taken.update(node.names)
        elif isinstance(node, ast.alias):
            taken.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            taken.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            assigned[node.id] = assigned.get(node.id, 0) + 1
    for node in tree.body:
        for part in ast.walk(node) if not isinstance(node, ast.FunctionDef | ast.ClassDef) else ():
            if isinstance(part, ast.Name):
                taken.add(part.id)
    return sorted(name for name in assigned if name not in taken)


def rename(text: str, old: str, new: str) -> str:
    tokens = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME and token.string == old:
            token = token._replace(string=new)
        tokens.append((token.type, token.string))
    return tokenize.untokenize(tokens)


def no_ops(text: str, count: int) -> list[str]:
    """Copies that do the same: odd ones with a renamed variable, even ones with a comment."""
    names = local_names(text)
    lines = text.splitlines(keepends=True)
    places = [i for i, line in enumerate(lines) if line.startswith(("def ", "class "))]
    found = []
    for i in range(count):
        if i % 2 and names:
            name = names[(i // 2) % len(names)]
            made = rename(text, name, f"{name}_{i}")
        else:
            at = places[(i // 2) % len(places)]
            made = "".join([*lines[:at], f"# Note {i}: nothing changes here.\n", *lines[at:]])
        ast.parse(made)
        found.append(made)
    return found


class Trials:
    """Runs what was not run yet and remembers it."""

    def __init__(self, lab: Lab, texts: list[str], seconds: float, store: Path | None) -> None:
        self.lab, self.texts, self.seconds, self.store = lab, texts, seconds, store
        self.clock = itertools.count()
        """Only the order of a policy's trials counts."""
        self.known: dict[str, list[float]] = {}
        if store is not None and store.is_file():
            self.known = json.loads(store.read_text())

    def get(self, number: int, index: int) -> Trial:
        """Trial `index` of copy `number`; 0 is the original."""
        key = f"{number}-{index}"
        seed = trial_seed(0, index)
        if key not in self.known:
            spec = TrialSpec(
                files={"train.py": self.texts[number].encode()},
                seed=seed,
                budget_seconds=self.seconds,
                label=f"no-ops/{key}",
            )
            result = self.lab.executor.run(spec)
            if not result.ok or result.score is None:
                sys.exit(f"trial {key} failed: {result.reason} {result.detail}\n{result.log_tail}")
            self.known[key] = [
                result.score,
                result.score_se or 0.0,
                result.tokens_per_second or 0.0,
            ]
            print(f"trial {key}: {result.score:.6f}", file=sys.stderr, flush=True)
            if self.store is not None:
                self.store.write_text(json.dumps(self.known))
        score, score_se, speed = self.known[key]
        result = TrialResult(
            seed, Outcome.OK, score=score, score_se=score_se, tokens_per_second=speed, num_audited=1
        )
        return Trial(result, self.lab.setup.key, "", "", place=1 + next(self.clock))


def experiment(number: int, trials: list[Trial], parent: int, setup: str) -> Experiment:
    return Experiment(
        number=number,
        commit=f"c{number}",
        parent=f"c{parent}" if number else "",
        state=State.JUDGED if number == 0 else State.RUNNING,
        description="no-op" if number else "baseline",
        proposer="search" if number else "baseline",
        verdict=Verdict.KEEP if number == 0 else None,
        decision=None if number else Decision("keep", "baseline", num_trials=len(trials)),
        trials=tuple(trials),
        setup=setup,
        judged_place=trials[-1].place if number == 0 else 0,
    )


def play(policy: str, trials: Trials, count: int) -> dict[str, object]:
    """One session of a policy over the copies."""
    lab = trials.lab
    setup = lab.setup.key
    config = lab.config.decision.model_copy(update={"policy": policy})
    base = experiment(0, [trials.get(0, i) for i in range(BASELINE_TRIALS)], 0, setup)
    session = Session("n", "autoresearch/n", (base,), setup=lab.setup)
    kept, spent = [], 0
    for number in range(1, count + 1):
        incumbent = session.experiment(session.best)
        own: list[Trial] = []
        while True:
            own.append(trials.get(number, len(own)))
            spent += 1
            new = experiment(number, own, session.best, setup)
            now = replace(session, experiments=(*session.experiments, new))
            decision = decide(new, incumbent, now, config)
            while is_incumbent_due(decision, new, incumbent, now):
                again = trials.get(session.best, len(incumbent.trials))
                spent += 1
                incumbent = replace(incumbent, trials=(*incumbent.trials, again))
                known = (incumbent if e.number == session.best else e for e in session.experiments)
                session = replace(session, experiments=tuple(known))
                now = replace(session, experiments=(*session.experiments, new))
                decision = decide(new, incumbent, now, config)
            if decision.action != "retest":
                break
        verdict = Verdict(decision.action)
        place = 1 + next(trials.clock)
        new = replace(
            new, state=State.JUDGED, verdict=verdict, decision=decision, judged_place=place
        )
        best = number if verdict is Verdict.KEEP else session.best
        session = replace(session, experiments=(*session.experiments, new), best=best)
        if verdict is Verdict.KEEP:
            kept.append(number)
    noise = measure_noise(session)
    best_score = session.experiment(session.best).score
    return {
        "policy": policy,
        "kept": kept,
        "trials": spent,
        "recorded_gain": None if best_score is None else (base.score or 0.0) - best_score,
        "noise": noise.sd,
        "noise_low": noise.low,
        "noise_high": noise.high,
    }


def seed_correlation(trials: Trials, pairs: int) -> dict[str, float]:
    """Correlation over seeds of the scores of two programs, with its 90 % interval by Fisher's z."""
    scores = np.array([[trials.get(n, i).result.score for i in range(pairs)] for n in (0, 1)])
    r = float(np.corrcoef(scores)[0, 1])
    reach = 1.645 / math.sqrt(pairs - 3)
    low, high = (math.tanh(math.atanh(r) + sign * reach) for sign in (-1, 1))
    one, two = scores.std(axis=1, ddof=1)
    return {
        "correlation": r,
        "low": low,
        "high": high,
        "noise": float(one),
        "noise_of_copy": float(two),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--trials", type=Path, help="file that keeps the scores between calls")
    parser.add_argument("--pairs", type=int, default=0, help="seeds to measure the correlation on")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = scaffold(Path(folder) / "lab", preset=options.preset, tag="noops")
        overrides = {"trial.budget_seconds": options.seconds, "data.source": "builtin:python"}
        loaded = load_config(made.run_directory, overrides)
        prepare(loaded.config)
        lab = assemble(made.run_directory, loaded, is_unsafe_allowed=True)
        text = (made.run_directory.root / "train.py").read_text()
        if options.pairs:
            texts = [
                text,
                re.sub(r"^MATRIX_LR = \S+", "MATRIX_LR = 0.036", text, flags=re.MULTILINE),
            ]
            assert texts[0] != texts[1], "the template has no MATRIX_LR"
        else:
            texts = [text, *no_ops(text, options.count)]
        trials = Trials(lab, texts, options.seconds, options.trials)
        if options.pairs:
            rows = [seed_correlation(trials, options.pairs)]
        else:
            rows = [play(p, trials, options.count) for p in ("greedy", "balanced", "strict")]
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
