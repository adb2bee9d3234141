"""What a session knows of its task: a metric, a setup, and something that runs trials. `open_task` gives one."""

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from autoresearch.config import Config
from autoresearch.events import Progress
from autoresearch.paths import RunDirectory
from autoresearch.types import Calibration, Metric, Setup, TrialResult, TrialSpec

if TYPE_CHECKING:
    from autoresearch.machine.hardware import Hardware
    from autoresearch.sandbox import Sandbox


class Executor(Protocol):
    """Something that can run a trial; one device is one slot."""

    def run(
        self,
        spec: TrialSpec,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> TrialResult:
        """Run one trial to its end and judge it; never raises for what the child does."""
        ...


class Runner(Executor, Protocol):
    """Runs the trials of a session."""

    calibration: Calibration
    """What is learnt from trials of the code at the tip."""

    def keep_caches(self, label: str) -> None:
        """Let later trials use what the last trial compiled, if that was the trial `label`: it is kept."""
        ...

    def use_attention(self, choice: str) -> None:
        """Pass the kernels that were chosen once for the setup to every process from now on."""
        ...


class Task(Protocol):
    """What a trial is and how it is scored, opened and checked."""

    @property
    def metric(self) -> Metric:
        """By what its experiments are compared."""
        ...

    @property
    def setup(self) -> Setup:
        """What makes its numbers comparable on this machine."""
        ...

    @property
    def executor(self) -> Runner:
        """What runs its trials."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the session records of it: `data`, `trivial_score`, `is_validation_visible` of `types.Run`."""
        ...


def open_task(
    run_directory: RunDirectory, config: Config, hardware: "Hardware", sandbox: "Sandbox"
) -> Task:
    """Return the task that `[task] kind` names.

    Raises:
        PrerequisiteError: what it needs is missing.
    """
    if config.task.kind == "program":
        from autoresearch.tasks.program.task import ProgramTask

        return ProgramTask(run_directory, config, hardware, sandbox)
    from autoresearch.tasks.gpt.task import GptTask

    return GptTask(run_directory, config, hardware, sandbox)


def contract_of(run_directory: RunDirectory, config: Config, files: Mapping[str, str]) -> str:
    """Return the rules a proposer is given for editable files of these texts.

    Names in braces are filled in by the prompt: `files`, `budget`, `longest`.
    """
    if config.task.kind == "program":
        from autoresearch.tasks.program import contract as of_programs

        return of_programs.rules(run_directory, config)
    from autoresearch.tasks.gpt import contract as of_models

    return of_models.rules(files)
