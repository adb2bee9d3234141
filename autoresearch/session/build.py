"""Builds a lab from a run directory: configuration, data, sandbox, executor, setup; and `try`."""

import contextlib
import os
import shlex
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoresearch.bootstrap import flat
from autoresearch.config import Config, Loaded, load_config
from autoresearch.errors import PrerequisiteError, UsageError, WorkError
from autoresearch.events import Phase
from autoresearch.paths import CONFIG_NAME, PROGRAM_NAME, RunDirectory, find_run_directory
from autoresearch.record.git import Repository, is_repository
from autoresearch.tasks.task import Runner, Task, open_task
from autoresearch.types import Metric, Purpose, Session, Setup, TrialResult, TrialSpec
from autoresearch.util.files import read_file
from autoresearch.util.locks import holder_of, session_lock_path

if TYPE_CHECKING:
    from autoresearch.machine.hardware import Hardware
    from autoresearch.sandbox import Sandbox
    from autoresearch.session.context import Emit


@dataclass(frozen=True)
class Lab:
    """Everything a trial needs, opened and checked."""

    run_directory: RunDirectory
    loaded: Loaded
    task: Task
    hardware: "Hardware"
    sandbox: "Sandbox"
    setup: Setup
    executor: Runner

    @property
    def config(self) -> Config:
        """The validated settings."""
        return self.loaded.config

    @property
    def metric(self) -> Metric:
        """What its trials are scored by."""
        return self.task.metric

    @property
    def is_unsafe(self) -> bool:
        """Whether trials run without a sandbox."""
        return self.sandbox.name == "none"


def open_run_directory(overrides: Mapping[str, Any] | None = None) -> tuple[RunDirectory, Loaded]:
    """Return the run directory of the current folder and its configuration.

    Raises:
        PrerequisiteError: the current folder is in no run directory.
        ConfigError: a setting is wrong.
    """
    run_directory = find_run_directory()
    return run_directory, load_config(run_directory, overrides)


def assemble(
    run_directory: RunDirectory, loaded: Loaded, *, is_unsafe_allowed: bool = False
) -> Lab:
    """Choose the sandbox, look at the hardware, open the task.

    Where no sandbox works and `is_unsafe_allowed`, there is none.

    Raises:
        PrerequisiteError: the data is not prepared, there is no sandbox, or it would show what it must hide.
    """
    from autoresearch.bootstrap.places import check_places
    from autoresearch.machine.hardware import describe
    from autoresearch.sandbox import choose

    config = loaded.config
    hardware = describe(config.trial.device)
    sandbox = choose(config.sandbox.backend, is_unsafe_allowed=is_unsafe_allowed)
    if sandbox.name != "none":
        check_places(run_directory, config)
    task = open_task(run_directory, config, hardware, sandbox)
    return Lab(run_directory, loaded, task, hardware, sandbox, task.setup, task.executor)


def lock_device(
    hardware: "Hardware", run_directory: RunDirectory
) -> contextlib.AbstractContextManager[object]:
    """Return a lock on the GPU, held as a context manager; on a CPU nothing is locked.

    Raises:
        WorkError: on entering, when another run holds the GPU (kind `locked`); names it.
    """
    from autoresearch.machine.hardware import gpu_uuid
    from autoresearch.util.locks import gpu_lock

    if hardware.kind == "cpu":
        return contextlib.nullcontext()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("HIP_VISIBLE_DEVICES")
    name = gpu_uuid() or f"{hardware.kind}-{(visible or '0').split(',')[0]}"
    return gpu_lock(name, f"`{run_directory.root}`")


def check_setup(session: Session, lab: "Lab", *, is_rebaseline: bool) -> None:
    """Refuse to continue where numbers would not be comparable.

    Raises:
        PrerequisiteError: names each difference.
    """
    if session.setup is None or is_rebaseline or session.setup.key == lab.setup.key:
        return
    differences = "; ".join(session.setup.differences(lab.setup))
    raise PrerequisiteError(
        f"session `{session.tag}` was measured under another setup: {differences}",
        hint="continue with `autoresearch run --rebaseline`, which measures the best again, or begin"
        f" another session from it: `autoresearch run --tag {session.tag}-2 --from best`",
        kind="setup_changed",
    )


def recall(lab: "Lab", session: Session) -> "Lab":
    """Give the executor what an earlier run measured and chose under this setup."""
    executor = lab.executor
    for experiment in session.experiments:
        for trial in experiment.trials if experiment.proposer == "baseline" else ():
            if trial.setup == lab.setup.key and trial.result.ok:
                executor.calibration = executor.calibration.learnt_from(trial.result)
    chosen = session.setups.get(lab.setup.key)
    if chosen is None or not chosen.attention or chosen.attention == lab.setup.attention:
        return lab
    executor.use_attention(chosen.attention)
    return replace(lab, setup=replace(lab.setup, attention=chosen.attention))


def try_working_tree(
    lab: Lab,
    *,
    seed: int,
    emit: "Emit",
    stop: threading.Event,
) -> TrialResult:
    """Train and judge the files in the run directory as they are.

    Returns:
        The audited result on the validation split.

    Raises:
        UsageError: an editable file is missing.
        WorkError: a session runs here (kind `locked`): a trial at the same time would spoil its numbers.
    """
    root = lab.run_directory.root
    if is_repository(root):
        with Repository.open(root) as repository:
            holder = holder_of(session_lock_path(repository.git_dir))
        if holder is not None:
            raise WorkError(
                f"a session is running here already: {holder}",
                hint="a trial at the same time would spoil its numbers: wait for its end, or end it with"
                " `autoresearch stop --wait`",
                kind="locked",
            )
    files = working_files(root, lab.config.task.editable)
    spec = TrialSpec(
        files=files,
        seed=seed,
        budget_seconds=lab.config.trial.budget_seconds,
        purpose=Purpose.TRY,
        cases_seed=seed,
        label="try",
    )
    with lock_device(lab.hardware, lab.run_directory):
        emit(Phase(name="trial", detail="working tree"))
        return lab.executor.run(spec, on_progress=emit, stop=stop)


def working_files(root: Path, editable: Sequence[str]) -> dict[str, bytes]:
    """Return what a trial of a session would be given, as it is in the folder: all that git tracks there.

    Raises:
        UsageError: an editable file is missing.
        PrerequisiteError: a trial would lack what train.py imports, see `flat.check`.
    """
    names, known = {*editable, PROGRAM_NAME, CONFIG_NAME}, set[str]()
    if is_repository(root):
        with Repository.open(root) as repository:
            head = repository.ref("HEAD")
            known.update(repository.entries(head) if head else ())
    names |= known
    files = {name: read_file(root / name) for name in sorted(names)}
    for name in editable:
        if files[name] is None:
            raise UsageError(
                f"`{name}` is missing in `{root}`",
                hint=f"bring it back: `git checkout HEAD -- {shlex.quote(name)}`"
                if name in known
                else f"make it, or correct `[task] editable` in {CONFIG_NAME}",
            )
    flat.check(files[editable[0]], files, root, editable[0])
    return {name: content for name, content in files.items() if content is not None}
