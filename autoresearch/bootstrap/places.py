"""Finds private folders below those that the sandbox shows to every program: of the system and of Python."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from autoresearch.config import Config
from autoresearch.errors import AutoresearchError, PrerequisiteError
from autoresearch.paths import RunDirectory, cache_directory, home
from autoresearch.record.git import Repository
from autoresearch.sandbox.machine_paths import shown_folder
from autoresearch.tasks.gpt.data.sources import normalise


def exposed(run_directory: RunDirectory, config: Config) -> list[str]:
    """Return a phrase for each folder of the user that any code in a sandbox could read."""
    return [
        f"{what} `{path}` is in `{folder}`"
        for what, path in _private(run_directory, config)
        if (folder := shown_folder(path)) is not None
    ]


def check_places(run_directory: RunDirectory, config: Config) -> None:
    """Refuse to run trials that could read their record or validation text.

    Raises:
        PrerequisiteError: names each folder.
    """
    if found := exposed(run_directory, config):
        raise PrerequisiteError(
            f"trials could read what they must not: {'; '.join(found)}, which the sandbox shows to every program",
            hint="move it out of there; AUTORESEARCH_CACHE_DIR names another cache, HOME another home",
            kind="sandbox_missing",
        )


def _private(run_directory: RunDirectory, config: Config) -> Iterator[tuple[str, Path]]:
    yield "the run directory", run_directory.root
    yield "the cache", cache_directory()
    yield "your home", home()
    with contextlib.suppress(AutoresearchError), Repository.open(run_directory.root) as repository:
        yield "the git repository", repository.common_dir
    with contextlib.suppress(AutoresearchError):
        source = normalise(config.data.source, run_directory.root)
        if source.startswith("/"):
            yield "the text", Path(source)
