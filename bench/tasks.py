"""What a trial of a program costs beyond its own work, and what pairs are worth on a busy machine.

Run: `python bench/tasks.py [--trials 15]`. Prints seconds of a trial of a program and an evaluator that do nothing,
under each sandbox; then, for template `speed` with a busy core beside it, the width of the 95 % interval of the
difference between two versions that are the same, by pairs and by trials of each alone.
"""

import argparse
import math
import multiprocessing
import statistics
import tempfile
import tomllib
from pathlib import Path

from autoresearch.config import Config
from autoresearch.paths import templates_directory
from autoresearch.sandbox import NoSandbox, Sandbox
from autoresearch.sandbox.select import BACKENDS, probe
from autoresearch.tasks.program.evaluation import Evaluator
from autoresearch.tasks.program.task import ProgramExecutor
from autoresearch.types import TrialResult, TrialSpec

NOTHING = "def nothing():\n    return 0\n"
NO_EVALUATION = """
from autoresearch.task import Score
def evaluate(candidate, seed, split):
    return Score(float(candidate.call("nothing")))
"""


def settings(task: dict[str, object]) -> Config:
    values = Config().model_dump()
    values["task"] |= {"kind": "program", "editable": ["solution.py"], **task}
    values["trial"] |= {"device": "cpu", "budget_seconds": 60.0}
    return Config.model_validate(values)


def run(
    config: Config, sandbox: Sandbox, solution: str, evaluate: str, *, beside: bool, trials: int
) -> list[TrialResult]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        evaluator = Evaluator("evaluate.py", {"evaluate.py": evaluate.encode()})
        executor = ProgramExecutor(config, sandbox, evaluator, scratch=Path(folder) / "trials")
        files = {"solution.py": solution.encode()}
        spec = TrialSpec(files, 0, 60.0, label="bench", reference=files if beside else None)
        return [executor.run(spec) for _ in range(trials)]


def burn() -> None:
    while True:
        pass


def half_width(values: list[float]) -> float:
    return 1.96 * statistics.stdev(values) / math.sqrt(len(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=15)
    trials = parser.parse_args().trials
    found = {name: probe(name).sandbox for name in BACKENDS}
    sandboxes = {"none": NoSandbox(), **{n: s for n, s in found.items() if s is not None}}
    print(f"{'sandbox':<12} {'trial, s':>9} {'pair, s':>9}")
    for name, sandbox in sandboxes.items():
        took = []
        for beside in (False, True):
            config = settings({"direction": "minimize", "paired": beside})
            results = run(config, sandbox, NOTHING, NO_EVALUATION, beside=beside, trials=trials)
            took.append(statistics.median(r.total_seconds or 0.0 for r in results))
        print(f"{name:<12} {took[0]:9.3f} {took[1]:9.3f}")

    folder = templates_directory() / "speed"
    task = tomllib.loads((folder / "template.toml").read_text())["settings"]["task"]
    solution = (folder / "solution.py").read_text().replace("BLOCK = 8 ", "BLOCK = 64 ")
    evaluate = (folder / "evaluate.py").read_text()
    sandbox = next(s for n, s in reversed(sandboxes.items()))
    busy = multiprocessing.Process(target=burn, daemon=True)
    busy.start()
    try:
        pairs = run(settings(task), sandbox, solution, evaluate, beside=True, trials=trials)
        alone = run(settings(task), sandbox, solution, evaluate, beside=False, trials=2 * trials)
    finally:
        busy.kill()
    by_pairs = [r.score - r.extra["reference_score"] for r in pairs if r.ok and r.score is not None]
    scores = [r.score for r in alone if r.ok and r.score is not None]
    singly = [a - b for a, b in zip(scores[::2], scores[1::2], strict=False)]
    print(f"speed, a core busy, {trials} differences of two like versions, log2 of milliseconds")
    print(
        f"  95 % of their mean: pairs +-{half_width(by_pairs):.4f}, alone +-{half_width(singly):.4f}"
    )
    print(f"  ratio {half_width(by_pairs) / half_width(singly):.2f}")


if __name__ == "__main__":
    main()
