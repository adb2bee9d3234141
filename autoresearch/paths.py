"""Where things lie: the run directory, its state folder, the cache, the templates."""

import os
from dataclasses import dataclass
from pathlib import Path

from autoresearch.errors import PrerequisiteError

CONFIG_NAME = "autoresearch.toml"
PROGRAM_NAME = "program.md"
STATE_NAME = ".autoresearch"


@dataclass(frozen=True)
class RunDirectory:
    """The folder `autoresearch init` makes; everything under `state` may be deleted at any time."""

    root: Path

    @property
    def config(self) -> Path:
        """autoresearch.toml of this run directory."""
        return self.root / CONFIG_NAME

    @property
    def program(self) -> Path:
        """program.md, the person's instructions to the agent."""
        return self.root / PROGRAM_NAME

    @property
    def results(self) -> Path:
        """results.tsv, written after each verdict and not under git."""
        return self.root / "results.tsv"

    @property
    def state(self) -> Path:
        """.autoresearch/, ignored by git."""
        return self.root / STATE_NAME

    @property
    def trials(self) -> Path:
        """Scratch folders of trials, one each, removed afterwards."""
        return self.state / "trials"

    @property
    def cache(self) -> Path:
        """What outlives a trial, `<setup>/`: compile caches of kept code, the baseline's claim."""
        return self.state / "cache"

    @property
    def logs(self) -> Path:
        """Full trial logs, `<tag>/<number>-<trial>.log`."""
        return self.state / "logs"

    @property
    def weights(self) -> Path:
        """Weights of kept experiments, `<tag>/<number>.safetensors`."""
        return self.state / "weights"


def find_run_directory(start: Path | None = None) -> RunDirectory:
    """Return the run directory that holds `start` (default: the current folder).

    Raises:
        PrerequisiteError: neither `start` nor a folder above it holds autoresearch.toml.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / CONFIG_NAME).is_file() and not (folder / "autoresearch" / "cli.py").is_file():
            return RunDirectory(folder)
    raise PrerequisiteError(
        f"no run directory at `{here}`",
        hint="make one with `autoresearch init myrun`, then `cd myrun`",
        kind="not_a_run_directory",
    )


def cache_directory() -> Path:
    """Return the cache shared by all run directories.

    `AUTORESEARCH_CACHE_DIR`, else the platform's cache folder (`$XDG_CACHE_HOME/autoresearch`).
    """
    chosen = os.environ.get("AUTORESEARCH_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("autoresearch")


def templates_directory() -> Path:
    """Return the folder of templates, in a checkout or in an installed wheel."""
    package = Path(__file__).resolve().parent
    installed = package / "_templates"
    return installed if installed.is_dir() else package.parent / "templates"


def reference_config() -> Path:
    """Return the commented autoresearch.toml that holds every default."""
    package = Path(__file__).resolve().parent
    installed = package / "_templates" / CONFIG_NAME
    return installed if installed.is_file() else package.parent / CONFIG_NAME
