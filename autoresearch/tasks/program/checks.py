"""What `doctor` says of a program and its evaluator before a night: does the score mean anything?

The program as it is in the folder is scored a few times: twice on the same cases, on test cases, on other cases, and
with answers that know nothing (always the first one; always the one before).
"""

import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from autoresearch.config import FROM_STDOUT, Config
from autoresearch.paths import RunDirectory
from autoresearch.tasks.program.evaluation import Found
from autoresearch.tasks.program.side import Bench, Side
from autoresearch.tasks.program.task import ProgramExecutor, find_evaluator
from autoresearch.types import Finding, Purpose, Split, TrialSpec

if TYPE_CHECKING:
    from autoresearch.sandbox import Sandbox

_SEED, _OTHER_SEED = 1, 2
_MUCH_SECONDS = 0.5
"""What an evaluator may take beyond its candidate before a word is said."""


class _Constant(Side):
    """Answers each call as the first of the same function."""

    def __init__(self, *arguments: Any) -> None:
        self._known: dict[str, bytes] = {}
        super().__init__(*arguments)

    def call(
        self, name: str, body: bytes, seconds: float | None
    ) -> tuple[bytes, float, float | None]:
        answer, spent, peak = super().call(name, body, seconds)
        return self._known.setdefault(name, answer), spent, peak


class _Late(_Constant):
    """Answers each call as the one before of the same function should have been."""

    def call(
        self, name: str, body: bytes, seconds: float | None
    ) -> tuple[bytes, float, float | None]:
        answer, spent, peak = Side.call(self, name, body, seconds)
        before = self._known.get(name, answer)
        self._known[name] = answer
        return before, spent, peak


def examine_task(
    run_directory: RunDirectory, config: Config, sandbox: "Sandbox", files: Mapping[str, bytes]
) -> Iterator[Finding]:
    """Yield what is found of a `program` task, one by one; the first failure is the last.

    Args:
        run_directory: Where evaluator and hidden data are.
        config: Its settings.
        sandbox: As for trials.
        files: What a trial would be given.

    Raises:
        AutoresearchError: the evaluator is missing, or fails.
    """
    task = config.task
    is_reported = task.metric == FROM_STDOUT
    evaluator = None if is_reported else find_evaluator(run_directory, config)
    with tempfile.TemporaryDirectory(prefix="autoresearch-task-") as folder:
        Path(folder).chmod(0o755)
        executor = ProgramExecutor(config, sandbox, evaluator, scratch=Path(folder) / "trials")
        budget = config.trial.budget_seconds
        spec = TrialSpec(files, _SEED, budget, purpose=Purpose.TRY, cases_seed=_SEED, label="check")
        result = executor.run(spec)
        if not result.ok:
            text = f"`{task.editable[0]}` has no score: {result.reason} ({result.detail})"
            yield Finding("task", "fail", text, "try it: `autoresearch try`")
            return
        if is_reported:
            text = f"scores {result.score:g}, reported by the program: nothing checks it"
            yield Finding("task", "warn", text, "an evaluator would: see docs/tasks.md")
            return
        look = _Look(executor, Bench(config, sandbox, Path(folder), threading.Event()), spec)
        yield from _look(look, config, result.extra["cases"]["candidate"], result.judge_seconds)


class _Look:
    """Scores the program in other ways."""

    def __init__(self, executor: ProgramExecutor, bench: Bench, spec: TrialSpec) -> None:
        self._executor = executor
        self._bench = bench
        self._spec = spec

    def score(
        self, seed: int = _SEED, split: Split = "validation", kind: type[Side] = Side
    ) -> tuple[Found, Side]:
        """Return what is found of the program with these cases, its answers as `kind` has them."""
        spec = TrialSpec(self._spec.files, seed, self._spec.budget_seconds, split, label="check")
        found, sides, _ = self._executor.evaluate(self._bench, spec, [spec.files], seed, kind)
        return found[0], sides[0]


def _look(
    look: _Look, config: Config, values: Sequence[float], seconds: float | None
) -> Iterator[Finding]:
    score = fmean(values)
    again, side = look.score()
    apart = abs(fmean(again.values) - score) if again.values else 0.0
    is_same = apart <= 1e-5 * abs(score)
    luck = "the same again on the same cases" if is_same else f"{apart:.3g} apart on the same cases"
    text = f"{config.task.metric} {score:.{config.task.decimals}f} of {len(values)} cases, {luck}"
    yield Finding("task", "ok", text, data={"score": score, "num_cases": len(values)})
    if len(values) > 1 and len(set(values)) == 1:
        text = f"every case scores {values[0]:g}: is there anything left to gain?"
        yield Finding("headroom", "warn", text, "make the cases harder")
    test, _ = look.score(split="test")
    if test.failure is not None:
        yield Finding(
            "test cases", "fail", f"the evaluator fails on `split='test'`: {test.failure}"
        )
    elif test.inputs == again.inputs:
        text = "the same as the validation cases: a confirmation would confirm nothing"
        hint = 'let `evaluate` draw others where `split` is "test"'
        yield Finding("test cases", "fail", text, hint)
    else:
        yield Finding("test cases", "ok", "apart from the validation cases")
    other, _ = look.score(_OTHER_SEED)
    if other.inputs == again.inputs:
        text = "the same for every seed: ideas can fit them, and luck on them is kept"
        hint = "draw them by `seed`"
        yield Finding("fresh cases", "warn", text, hint)
    sign = 1 if config.task.direction == "minimize" else -1
    for kind, what in ((_Constant, "the first answer, given again"), (_Late, "the answer before")):
        found, _ = look.score(kind=kind)
        worse = sign * (fmean(found.values) - score) if found.values else abs(score) + 1
        if worse <= 1e-5 * abs(score):
            text = (
                f"{what} to each call scores {fmean(found.values):.4g}, no worse than the program"
            )
            hint = (
                "if the program is no constant, its score does not tell good answers from bad ones"
            )
            yield Finding("scorer", "warn", text, hint)
    mine = side.call_seconds
    if seconds is not None and seconds > mine + _MUCH_SECONDS:
        text = f"takes {seconds:.1f} s beside {mine:.1f} s of the program: each trial waits for it"
        yield Finding(
            "evaluator", "warn", text, "score fewer cases, or put its work before the calls"
        )
