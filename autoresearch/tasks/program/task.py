"""The task `program`: what it is scored by, its setup, and trials of it from a snapshot to a result."""

import hashlib
import math
import platform
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, variance
from typing import TYPE_CHECKING, Any

from autoresearch.config import FROM_STDOUT, Config
from autoresearch.errors import AutoresearchError, PrerequisiteError, WorkError
from autoresearch.events import Progress
from autoresearch.machine.hardware import package_version
from autoresearch.paths import RunDirectory
from autoresearch.record.git import Repository, is_repository
from autoresearch.tasks.program import stdout
from autoresearch.tasks.program.evaluation import Evaluation, Evaluator, EvaluatorError, Found
from autoresearch.tasks.program.side import Bench, CheatError, FailedError, Side, StoppedError
from autoresearch.trial.process import suspended_seconds
from autoresearch.types import (
    CASES_SEED,
    FIGURES,
    NUM_CASES,
    REFERENCE_SCORE,
    REPORTED,
    Calibration,
    Metric,
    Outcome,
    Purpose,
    Setup,
    TrialResult,
    TrialSpec,
)
from autoresearch.util.files import read_file

if TYPE_CHECKING:
    from autoresearch.machine.hardware import Hardware
    from autoresearch.sandbox import Sandbox

VERSION = "program 1"
"""Of how evaluations are made; numbers of different ones are not compared."""
_TELL_SECONDS = 0.5
_BLIND_SECONDS = 10.0
"""Between two looks of the lab at a process, beyond which a trial is run again."""
_GUARD_ERRORS = 2.0
"""Standard errors by which a figure must be beyond its limit for a veto."""


class ProgramTask:
    """Scores a program by a hidden evaluator, or by the number it prints; see `tasks.task.Task`.

    Raises:
        PrerequisiteError: the evaluator is missing, or git holds what must be hidden.
    """

    def __init__(
        self, run_directory: RunDirectory, config: Config, hardware: "Hardware", sandbox: "Sandbox"
    ) -> None:
        from autoresearch.machine.hardware import device_of

        task = config.task
        is_reported = task.metric == FROM_STDOUT
        name = "score" if is_reported else task.metric
        assert task.direction
        self.metric = Metric(name, task.unit, task.direction, task.decimals)
        evaluator = None if is_reported else find_evaluator(run_directory, config)
        digest = digest_of(config, evaluator)
        self.setup = Setup(
            gpu=hardware.name,
            torch="",
            driver="",
            budget_seconds=config.trial.budget_seconds,
            data=digest,
            judge=f"{VERSION}, Python {platform.python_version()}, numpy {package_version('numpy')}",
            max_seq_len=0,
            eval_tokens=0,
        )
        if config.trial.device == "auto":
            trial = config.trial.model_copy(update={"device": device_of(hardware.kind)})
            config = config.model_copy(update={"trial": trial})
        self.executor = ProgramExecutor(
            config,
            sandbox,
            evaluator,
            scratch=run_directory.trials,
            log_directory=run_directory.logs,
        )
        self.facts: dict[str, Any] = {
            "data": {
                "source": REPORTED if is_reported else task.evaluator,
                "key": digest,
                "subject": f"{task.editable[0]}, score {REPORTED}"
                if is_reported
                else f"{task.editable[0]}, scored by {task.evaluator}",
            }
        }


def find_evaluator(run_directory: RunDirectory, config: Config) -> Evaluator:
    """Return the evaluator of a run directory, as it is now.

    Raises:
        PrerequisiteError: it or hidden data is missing, or git would show it to candidates and agents.
    """
    root, task = run_directory.root, config.task
    code = read_file(root / task.evaluator)
    if code is None:
        raise PrerequisiteError(
            f"the evaluator `{task.evaluator}` is missing in `{root}`",
            hint="write it, see docs/tasks.md, or name another as `[task] evaluator`",
        )
    for name in task.hidden:
        if not (root / name).exists():
            raise PrerequisiteError(
                f"`{name}` of `[task] hidden` is missing in `{root}`",
                hint="put it there, or take it out of `hidden`",
            )
    names = (task.evaluator, *task.hidden)
    if is_repository(root):
        with Repository.open(root) as repository:
            head = repository.ref("HEAD")
            known = repository.entries(head) if head else {}
        shown = [
            n for n in names if any(p == n or p.startswith(f"{n.rstrip('/')}/") for p in known)
        ]
        if shown:
            files = " ".join(shown)
            raise PrerequisiteError(
                f"{', '.join(f'`{n}`' for n in shown)} is under git, where every candidate and every agent finds it",
                hint=f"`git rm -r --cached {files} && git commit -m 'hide {files}'`, and name it in .gitignore",
            )
    places = {name: (root / name).resolve() for name in task.hidden}
    if out := [name for name, place in places.items() if not place.is_relative_to(root.resolve())]:
        raise PrerequisiteError(
            f"`{out[0]}` of `[task] hidden` leads out of the run directory",
            hint="put a copy in its place: an evaluator may read nothing else of yours",
        )
    return Evaluator(task.evaluator, {task.evaluator: code}, places)


def digest_of(config: Config, evaluator: Evaluator | None) -> str:
    """Return a hash of what a score depends on besides the candidate and the machine."""
    task = config.task
    settings = (task.metric, task.direction, task.paired, task.command, task.pattern)
    digest = hashlib.sha256(repr(settings).encode())
    if evaluator is not None:
        digest.update(evaluator.files[evaluator.file])
        for name, place in sorted(evaluator.folders.items()):
            for path in sorted(p for p in (place, *place.rglob("*")) if p.is_file()):
                digest.update(f"{name}\0{path.relative_to(place)}\0".encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


class ProgramExecutor:
    """Runs trials of a program, one at a time; see `execution.Executor`."""

    def __init__(
        self,
        config: Config,
        sandbox: "Sandbox",
        evaluator: Evaluator | None,
        *,
        scratch: Path,
        log_directory: Path | None = None,
    ) -> None:
        self.calibration = Calibration()
        self._config = config
        self._sandbox = sandbox
        self._evaluator = evaluator
        self._scratch = scratch
        self._log_directory = log_directory

    def keep_caches(self, label: str) -> None:
        """Nothing is compiled."""

    def use_attention(self, choice: str) -> None:
        """No kernels are chosen."""

    def run(
        self,
        spec: TrialSpec,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> TrialResult:
        """Score one version, beside its reference where the task is paired.

        Raises:
            WorkError: the evaluator fails for the incumbent too.
        """
        began, slept = time.monotonic(), suspended_seconds()
        told, looked, blind = [0.0], [began], [0.0]

        def tell() -> None:
            now = time.monotonic()
            blind[0], looked[0] = max(blind[0], now - looked[0]), now
            seconds = now - began
            if on_progress is not None and seconds - told[0] >= _TELL_SECONDS:
                told[0] = seconds
                on_progress(
                    Progress(
                        number=spec.number,
                        label=spec.label,
                        phase="evaluate",
                        seconds=seconds,
                        budget_seconds=spec.budget_seconds,
                    )
                )

        bench = Bench(
            _with_budget(self._config, spec.budget_seconds),
            self._sandbox,
            self._scratch,
            stop or threading.Event(),
            tell,
        )
        if on_progress is not None:
            told[0] = -_TELL_SECONDS
            tell()
        result = TrialResult(
            seed=spec.seed,
            outcome=Outcome.TAINTED,
            split=spec.split,
            is_maximized=self._config.task.direction == "maximize",
            sandbox=self._sandbox.name,
        )
        try:
            result = self._scored(bench, spec, result)
        except StoppedError:
            result = replace(result, reason="stopped", detail="the session was stopped")
        blind[0] = max(blind[0], suspended_seconds() - slept)
        if blind[0] > _BLIND_SECONDS and result.outcome is not Outcome.TAINTED:
            detail = f"the lab, or the machine, did nothing for {blind[0]:.0f} s"
            result = replace(
                result, outcome=Outcome.TAINTED, reason="suspended", detail=detail, score=None
            )
        return replace(result, total_seconds=time.monotonic() - began)

    def _scored(self, bench: Bench, spec: TrialSpec, result: TrialResult) -> TrialResult:
        seed = random.SystemRandom().getrandbits(48) if spec.cases_seed is None else spec.cases_seed
        result = replace(result, extra={CASES_SEED: seed})
        if self._evaluator is None:
            return stdout.score(bench, self._shown(spec.files), spec, result)
        is_paired = self._config.task.paired and spec.reference is not None
        versions = [spec.files, *[spec.reference or {}] * is_paired]
        found, sides, seconds = self.evaluate(bench, spec, versions, seed)
        side = sides[0]
        peak = side.peak_mb
        result = replace(
            result,
            log_tail=side.output.tail,
            train_seconds=side.call_seconds,
            judge_seconds=seconds,
            peak_memory_mb=peak,
            extra={**result.extra, "num_calls": side.num_calls},
        )
        self._write_log(spec, side.output.text)
        mine, theirs = found[0], found[1] if is_paired else None
        if theirs is not None and isinstance(theirs.failure, FailedError | CheatError):
            return replace(
                result, reason="reference", detail=f"the incumbent failed: {theirs.failure}"
            )
        if isinstance(mine.failure, CheatError):
            return replace(
                result, outcome=Outcome.INVALID, reason="cheat", detail=str(mine.failure)
            )
        if isinstance(mine.failure, FailedError):
            reason, outcome = mine.failure.kind, Outcome.CRASH
            if reason in ("wrong_answer", "bad_answer"):
                outcome = Outcome.INVALID
            return replace(result, outcome=outcome, reason=reason, detail=str(mine.failure))
        if mine.failure is not None:
            self._blame(bench, spec, seed, mine.failure, theirs)
            detail = "its answers made the evaluator fail, which the incumbent's do not"
            return replace(
                result, outcome=Outcome.INVALID, reason="breaks_evaluator", detail=detail
            )
        if theirs is not None and theirs.failure is not None:
            raise _fault(self._evaluator, theirs.failure)
        num_cases = len(theirs.values) if theirs is not None else spec.num_cases
        if num_cases is not None and len(mine.values) != num_cases:
            detail = f"{len(mine.values)} cases have a score, of {num_cases}"
            return replace(result, outcome=Outcome.INVALID, reason="missing_cases", detail=detail)
        return self._conclude(spec, result, mine, theirs, side)

    def evaluate(
        self,
        bench: Bench,
        spec: TrialSpec,
        versions: Sequence[Mapping[str, bytes]],
        seed: int,
        kind: type[Side] = Side,
    ) -> tuple[list[Found], list[Side], float]:
        """Return what was found of each version, their processes, which have ended, and the evaluator's seconds.

        Raises:
            StoppedError: the session was stopped.
        """
        assert self._evaluator is not None
        editable = tuple(self._config.task.editable)
        sides: list[Side] = []
        try:
            for files in versions:
                label = f"{spec.label}-{len(sides)}"
                sides.append(kind(bench, label, self._shown(files), editable[0], editable))
            evaluation = Evaluation(bench, self._evaluator, sides, f"{spec.label}-evaluator")
            try:
                found = evaluation.run(seed, spec.split)
            except EvaluatorError as exc:
                found = [Found(failure=exc) for _ in sides]
            return found, sides, evaluation.seconds
        finally:
            for side in sides:
                side.close()

    def _shown(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return files without what is hidden, wherever they came from."""
        secret = (self._config.task.evaluator, *self._config.task.hidden)
        return {
            path: content
            for path, content in files.items()
            if not any(path == s or path.startswith(f"{s.rstrip('/')}/") for s in secret)
        }

    def _blame(
        self, bench: Bench, spec: TrialSpec, seed: int, failure: Exception, theirs: Found | None
    ) -> None:
        """Find out whether the evaluator fails for the incumbent too.

        Raises:
            WorkError: it does, or there is no incumbent yet.
        """
        assert self._evaluator is not None
        if theirs is None and spec.reference is not None:
            theirs = self.evaluate(bench, spec, [spec.reference], seed)[0][0]
        if theirs is None or theirs.failure is not None:
            raise _fault(self._evaluator, failure)

    def _conclude(
        self, spec: TrialSpec, result: TrialResult, mine: Found, theirs: Found | None, side: Side
    ) -> TrialResult:
        """Return the result with score, standard error, figures, and the veto of a guard."""
        cases = {"candidate": _short(mine.values)}
        score, differences = fmean(mine.values), mine.values
        extra: dict[str, Any] = {NUM_CASES: len(mine.values)}
        if theirs is not None:
            differences = [a - b for a, b in zip(mine.values, theirs.values, strict=True)]
            extra[REFERENCE_SCORE] = fmean(theirs.values)
            cases["reference"] = _short(theirs.values)
            if spec.anchor is not None:
                score = spec.anchor + fmean(differences)
        n = len(differences)
        figures = dict(mine.figures)
        figures.setdefault("call_ms", [1000 * side.call_seconds / max(1, side.num_calls)])
        if side.peak_mb is not None:
            figures.setdefault("memory_mb", [side.peak_mb])
        means = {name: float(f"{fmean(values):.6g}") for name, values in figures.items()}
        result = replace(
            result,
            outcome=Outcome.OK,
            score=score,
            score_se=math.sqrt(variance(differences) / n) if n > 1 else None,
            num_audited=n,
            extra={**result.extra, **extra, "cases": cases, FIGURES: means},
        )
        for veto, detail in self._vetoes(spec, figures):
            return replace(result, outcome=Outcome.INVALID, reason=veto, detail=detail, score=None)
        return result

    def _vetoes(
        self, spec: TrialSpec, figures: Mapping[str, Sequence[float]]
    ) -> Iterator[tuple[str, str]]:
        """Yield reason and detail of each guard that a trial breaks, its noise allowed for."""
        for name, guard in self._config.task.guards.items():
            values = figures.get(name)
            if values is None:
                raise WorkError(
                    f"`[task] guards` names `{name}`, of which the evaluator gives no figure",
                    hint=f"return it: `Score(values, figures={{{name!r}: ...}})`; known: {', '.join(figures)}",
                    kind="trial_failed",
                )
            mean, n = fmean(values), len(values)
            slack = _GUARD_ERRORS * math.sqrt(variance(values) / n) if n > 1 else 0.0
            most = [] if guard.max is None else [guard.max]
            if guard.worse_by is not None and name in spec.guarded:
                base = spec.guarded[name]
                most.append(base + guard.worse_by * abs(base))
            if most and mean - slack > min(most):
                yield f"guard_{name}", f"{name} is {mean:.4g}, above {min(most):.4g}"
            if guard.min is not None and mean + slack < guard.min:
                yield f"guard_{name}", f"{name} is {mean:.4g}, below {guard.min:.4g}"

    def _write_log(self, spec: TrialSpec, text: str) -> None:
        if self._log_directory is None or not spec.label or spec.purpose is Purpose.TRY:
            return
        path = self._log_directory / f"{spec.label}.log"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError:
            return


def _with_budget(config: Config, seconds: float) -> Config:
    trial = config.trial.model_copy(update={"budget_seconds": seconds})
    return config.model_copy(update={"trial": trial})


def _short(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _fault(evaluator: Evaluator, failure: Exception) -> AutoresearchError:
    return WorkError(
        f"`{evaluator.file}` fails, for the incumbent too:\n{failure}",
        hint="correct it, try it with `autoresearch try`, then continue with `autoresearch run --rebaseline`",
        kind="trial_failed",
    )
