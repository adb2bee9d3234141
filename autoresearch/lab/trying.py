"""One judged trial of the working tree, without a record."""

import threading
from collections.abc import Callable

from autoresearch.errors import UsageError
from autoresearch.events import Event, Phase, Progress
from autoresearch.lab.assembly import Lab, lock_device
from autoresearch.paths import CONFIG_NAME, PROGRAM_NAME
from autoresearch.types import TrialResult, TrialSpec


def try_working_tree(
    lab: Lab,
    *,
    seed: int,
    emit: Callable[[Event | Progress | Phase], None],
    stop: threading.Event,
) -> TrialResult:
    """Train and judge the editable files as they lie in the run directory.

    Returns:
        The audited result on the validation split.

    Raises:
        UsageError: an editable file is missing.
    """
    root = lab.run_directory.root
    files = {}
    for name in (*lab.config.task.editable, PROGRAM_NAME, CONFIG_NAME):
        path = root / name
        if path.is_file():
            files[name] = path.read_bytes()
        elif name in lab.config.task.editable:
            raise UsageError(
                f"`{name}` is missing in `{root}`",
                hint="`autoresearch init .` fills in what is missing",
            )
    spec = TrialSpec(
        files=files,
        seed=seed,
        budget_seconds=lab.config.trial.budget_seconds,
        audit=True,
        label="try",
    )
    with lock_device(lab.hardware, lab.run_directory):
        emit(Phase(name="trial", detail="working tree"))
        return lab.executor.run(spec, on_progress=emit, stop=stop)
