"""One judged trial of the working tree, without a record."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from autoresearch.errors import UsageError, WorkError
from autoresearch.events import Event, Phase, Progress
from autoresearch.paths import CONFIG_NAME, PROGRAM_NAME
from autoresearch.record.git import Repository, is_repository
from autoresearch.session.build import Lab, lock_device
from autoresearch.types import TrialResult, TrialSpec
from autoresearch.util.files import read_file
from autoresearch.util.locks import holder_of, session_lock_path


def try_working_tree(
    lab: Lab,
    *,
    seed: int,
    emit: Callable[[Event | Progress | Phase], None],
    stop: threading.Event,
) -> TrialResult:
    """Train and judge the files of the run directory as they lie there.

    Returns:
        The audited result on the validation split.

    Raises:
        UsageError: an editable file is missing.
        WorkError: a session runs here (kind `locked`): a trial beside its trials would spoil its numbers.
    """
    _refuse_beside_a_session(lab.run_directory.root)
    files = working_files(lab.run_directory.root, lab.config.task.editable)
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


def _refuse_beside_a_session(root: Path) -> None:
    if not is_repository(root):
        return
    with Repository.open(root) as repository:
        holder = holder_of(session_lock_path(repository.git_dir))
    if holder is not None:
        raise WorkError(
            f"a session is running here already: {holder}",
            hint="a trial beside it would spoil its numbers: wait for its end, or end it with"
            " `autoresearch stop --wait`",
            kind="locked",
        )


def working_files(root: Path, editable: Sequence[str]) -> dict[str, bytes]:
    """Return what a trial of a session would be given, as it lies in the folder: all that git knows there.

    Raises:
        UsageError: an editable file is missing.
    """
    names = {*editable, PROGRAM_NAME, CONFIG_NAME}
    if is_repository(root):
        with Repository.open(root) as repository:
            head = repository.ref("HEAD")
            names.update(repository.entries(head) if head else ())
    files = {name: read_file(root / name) for name in sorted(names)}
    for name in editable:
        if files[name] is None:
            raise UsageError(
                f"`{name}` is missing in `{root}`",
                hint="`autoresearch init .` fills in what is missing",
            )
    return {name: content for name, content in files.items() if content is not None}
