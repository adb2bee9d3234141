"""Real trials on a machine that a load of ours slows half the time: what the keep rule makes of their scores.

    python bench/pace.py --trials pace.json          # hours: 12 trials of each program, quiet and under the load
    python bench/pace.py --trials pace.json --each 3 --seconds 8 --stretch 10 30    # a short form, minutes

Trains the template of a preset and copies with other learning rates (their true effects are measured on the quiet
machine) on `builtin:python`, in turns. The load is one busy process, started and ended here, on for stretches and off
for stretches of random length. What was trained stands in the file, and a second call continues from there. Then the
package's rule decides over the same trials twice: with the counters of what others took, and without.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from autoresearch.bootstrap.scaffold import scaffold
from autoresearch.config import DecisionConfig, load_config
from autoresearch.decision.rule import decide
from autoresearch.decision.scores import trial_seed
from autoresearch.machine.load import READ_SECONDS, Meter, read
from autoresearch.session.build import Lab, assemble
from autoresearch.session.trials import with_load
from autoresearch.tasks.gpt.data.prepare import prepare
from autoresearch.types import (
    Decision,
    Experiment,
    Outcome,
    Session,
    Setup,
    State,
    Trial,
    TrialResult,
    TrialSpec,
    Verdict,
)

RATES = (1.0, 1.0, 0.5, 2.0, 4.0)
"""Of each program, times the template's MATRIX_LR; the second is the first again, under another name."""
SETUP = Setup("cpu", "t", "d", 1.0, "x", "1", 8, 9)
BUSY = "import sys, time; end = time.time() + float(sys.argv[1])\nwhile time.time() < end: pass"


@contextlib.contextmanager
def load(seed: int, stretch: tuple[float, float]) -> Iterator[None]:
    """One busy process, on and off for stretches of these seconds, until the block is left.

    Its parent ends at once, so that it is not of the lab's tree; and it ends by itself should the bench be killed.
    """
    is_over, chance = threading.Event(), random.Random(seed)

    def swing() -> None:
        while not is_over.is_set():
            seconds = chance.uniform(*stretch)
            line = shlex.join([sys.executable, "-c", BUSY, str(seconds)])
            shell = ["sh", "-c", f"{line} >/dev/null 2>&1 & echo $!"]
            said = subprocess.run(shell, stdout=subprocess.PIPE, text=True, check=True).stdout
            is_over.wait(seconds)
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(said), signal.SIGKILL)
            is_over.wait(chance.uniform(*stretch))

    thread = threading.Thread(target=swing)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


class Pool:
    """Trials of every program, quiet and under the load, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, object]] = json.loads(path.read_text()) if path.is_file() else []

    def run(
        self, lab: Lab, texts: list[str], each: int, seconds: float, *, is_loaded: bool
    ) -> None:
        """Run what is missing, the programs in turns."""
        for index in range(each):
            for program, text in enumerate(texts):
                key = [program, index, is_loaded]
                if any(row["key"] == key for row in self.rows):
                    continue
                spec = TrialSpec(
                    files={"train.py": text.encode()},
                    seed=trial_seed(0, index),
                    budget_seconds=seconds,
                    label=f"pace/{program}-{index}",
                )
                meter = Meter()
                result = with_load(lab.executor.run(spec, on_progress=meter.hear), meter)
                if not result.ok:
                    sys.exit(f"trial {key} failed: {result.reason} {result.detail}")
                self.rows.append(
                    {
                        "key": key,
                        "score": result.score,
                        "load": result.extra.get("load"),
                        "tokens_per_second": result.tokens_per_second,
                    }
                )
                self.path.write_text(json.dumps(self.rows))
                print(f"{key}: {result.score:.4f} {result.extra.get('load')}", file=sys.stderr)

    def of(self, program: int, *, is_loaded: bool) -> list[dict[str, object]]:
        """The trials of a program in the order they ran."""
        return [row for row in self.rows if row["key"][0] == program and row["key"][2] == is_loaded]


def trial(row: dict[str, object], place: int, *, is_blind: bool) -> Trial:
    extra = {} if is_blind or row["load"] is None else {"load": row["load"]}
    seed = trial_seed(0, row["key"][1])
    result = TrialResult(seed=seed, outcome=Outcome.OK, score=row["score"], extra=extra)
    return Trial(result, SETUP.key, "", "", place=place)


def chances(pool: Pool, program: int, *, is_blind: bool) -> list[float]:
    """Probability of a gain that each trial of a program under the load gets, against what had run by then."""
    own = pool.of(0, is_loaded=True)
    order = {id(row): 1 + n for n, row in enumerate(pool.rows)}
    base = [trial(row, 2 * order[id(row)], is_blind=is_blind) for row in own]
    judged = base[2].place + 1
    found = []
    for row in pool.of(program, is_loaded=True):
        new = trial(row, 2 * order[id(row)], is_blind=is_blind)
        if new.place < judged:
            continue
        known = [t for t in base if t.place < new.place or t in base[:3]]
        incumbent = experiment(0, known, judged)
        idea = experiment(1, [new], 0)
        session = Session(tag="p", branch="b", experiments=(incumbent, idea), setup=SETUP)
        found.append(decide(idea, incumbent, session, DecisionConfig()).p_real or 0.0)
    return found


def experiment(number: int, trials: list[Trial], judged: int) -> Experiment:
    return Experiment(
        number=number,
        commit=f"c{number}",
        parent="c0" if number else "",
        description="",
        proposer="search" if number else "baseline",
        state=State.JUDGED if judged else State.RUNNING,
        verdict=Verdict.KEEP if judged else None,
        decision=Decision("keep", "baseline") if judged else None,
        trials=tuple(trials),
        setup=SETUP.key,
        judged_place=judged,
    )


def spread(pool: Pool, *, is_loaded: bool, is_adjusted: bool = False) -> float:
    """Standard deviation of repeats about their programs' means; with the slopes on both loads taken out, or not."""
    scores, paces = [], []
    for program in range(len(RATES)):
        rows = pool.of(program, is_loaded=is_loaded)
        score = np.array([row["score"] for row in rows])
        pace = np.array(
            [[np.log1p(-share) for share in (row["load"] or {}).values()] or [0, 0] for row in rows]
        )
        scores.append(score - score.mean())
        paces.append(pace - pace.mean(axis=0))
    left, degrees = np.concatenate(scores), sum(len(s) - 1 for s in scores)
    if is_adjusted:
        x = np.concatenate(paces)
        left = left - x @ np.linalg.lstsq(x, left, rcond=None)[0]
        degrees -= 2
    return float(np.sqrt((left**2).sum() / max(degrees, 1)))


def report(pool: Pool) -> None:
    quiet, loaded = (spread(pool, is_loaded=is_loaded) for is_loaded in (False, True))
    adjusted = spread(pool, is_loaded=True, is_adjusted=True)
    print(
        f"spread of repeats: quiet {quiet:.4f}, under the load {loaded:.4f}, adjusted {adjusted:.4f}"
    )
    print(
        "| program | effect, quiet | kept at once, blind | kept, sees it | p below 0.3, blind | sees it |"
    )
    print("|---|---|---|---|---|---|")
    means = [np.mean([r["score"] for r in pool.of(n, is_loaded=False)]) for n in range(len(RATES))]
    for program in range(1, len(RATES)):
        found = [np.array(chances(pool, program, is_blind=b)) for b in (True, False)]
        cells = [f"MATRIX_LR x {RATES[program]:g}", f"{means[program] - means[0]:+.4f}"]
        cells += [f"{(p > 0.5).mean():.0%} of {len(p)}" for p in found]
        cells += [f"{(p < 0.3).mean():.0%}" for p in found]
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--each", type=int, default=12, help="trials of each program, quiet and under the load"
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--stretch", type=float, nargs=2, default=(30.0, 300.0), help="seconds on, and off"
    )
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--trials", type=Path, default=Path("pace.json"), help="the file of trials")
    parser.add_argument("--cost", action="store_true", help="what counting costs, instead")
    options = parser.parse_args()
    if options.cost:
        began = time.process_time()
        for _ in range(50):
            read()
        each = (time.process_time() - began) / 50
        print(
            f"a reading {each * 1000:.1f} ms of one core, {each / READ_SECONDS:.3%} of a training"
        )
        return
    pool, began = Pool(options.trials), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        made = scaffold(Path(folder) / "lab", preset=options.preset, tag="pace")
        overrides = {"trial.budget_seconds": options.seconds, "data.source": "builtin:python"}
        loaded = load_config(made.run_directory, overrides)
        prepare(loaded.config)
        lab = assemble(made.run_directory, loaded, is_unsafe_allowed=True)
        text = (made.run_directory.root / "train.py").read_text()
        usual = float(re.findall(r"^MATRIX_LR = ([\d.]+)", text, re.MULTILINE)[0])
        texts = [
            re.sub(
                r"^MATRIX_LR = [\d.]+", f"MATRIX_LR = {usual * rate:g}", text, flags=re.MULTILINE
            )
            for rate in RATES
        ]
        pool.run(lab, texts, options.each, options.seconds, is_loaded=False)
        with load(len(pool.rows), tuple(options.stretch)):
            pool.run(lab, texts, options.each, options.seconds, is_loaded=True)
    report(pool)
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
