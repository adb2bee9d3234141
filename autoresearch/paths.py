"""Paths of the run directory, its state folder, the cache and the templates; and which paths may be written."""

import contextlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from autoresearch.errors import PrerequisiteError

CONFIG_NAME = "autoresearch.toml"
PROGRAM_NAME = "program.md"
STATE_NAME = ".autoresearch"
# What a file system may pass over in a name, and what it may take for another one: as `git fsck` knows them.
_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_UNSAFE = re.compile(
    r"[ .]*|(\.git|git~1|\.autoresearch)[ .]*(:.*)?|.*[\\\0].*", re.IGNORECASE | re.DOTALL
)


def is_safe(path: str) -> bool:
    """Whether a path of a git tree stays below the folder it is written to, and out of `.git` and `.autoresearch`.

    Every path that a tree, a proposal or a snapshot names goes through here before it is written.
    """
    return not any(_UNSAFE.fullmatch(_IGNORED.sub("", name)) for name in path.split("/"))


def python_command(*arguments: str) -> list[str]:
    """Return the command that starts Python outside a sandbox: never with modules of the current folder."""
    return [sys.executable, "-P", *arguments]


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
        """program.md, the user's instructions to the agent."""
        return self.root / PROGRAM_NAME

    @property
    def results(self) -> Path:
        """results.tsv, written after each verdict and not under git, unless it is the user's."""
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


def weights_file(scratch: Path, label: str) -> Path:
    """Return where the weights of a trial wait to be kept or deleted."""
    return scratch / f"{label or 'trial'}.safetensors"


def find_run_directory(start: Path | None = None) -> RunDirectory:
    """Return the run directory that holds `start` (default: the current folder).

    Raises:
        PrerequisiteError: neither `start` nor a folder above it holds autoresearch.toml.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / CONFIG_NAME).is_file() and not (folder / "autoresearch" / "cli.py").is_file():
            return RunDirectory(folder)
    hint = "make one with `autoresearch init myrun && cd myrun`"
    git = next((p / ".git" for p in (here, *here.parents) if (p / ".git").is_dir()), None)
    branch = _session_branch(git) if git else ""
    if git and branch:
        way = f"`git switch {branch}`"
        with contextlib.suppress(OSError):
            head = (git / "HEAD").read_text(encoding="utf-8").strip()
            if head.startswith("ref: refs/heads/autoresearch/"):
                is_sparse = (git / "info" / "sparse-checkout").is_file()
                restore = (
                    "git sparse-checkout disable"
                    if is_sparse
                    else f"git checkout HEAD -- {CONFIG_NAME}"
                )
                way = f"it is checked out without {CONFIG_NAME}: `{restore}`"
        hint = f"a session's branch is in this repository: {way}; or {hint}"
    raise PrerequisiteError(f"no run directory at `{here}`", hint=hint, kind="not_a_run_directory")


def _session_branch(git: Path) -> str:
    """Return a session's branch of a repository, which a clone may have and not show; or nothing."""
    loose = (*git.glob("refs/heads/autoresearch/*"), *git.glob("refs/remotes/*/autoresearch/*"))
    names = [path.relative_to(git).as_posix() for path in loose]
    with contextlib.suppress(OSError):
        packed = (git / "packed-refs").read_text(encoding="utf-8", errors="replace")
        names += [line.rpartition(" ")[2] for line in packed.splitlines()]
    branch = re.compile(r"refs/(?:heads|remotes/[^/]+)/(autoresearch/[^/]+)")
    found = [match[1] for match in map(branch.fullmatch, names) if match]
    return min(found, default="")


def expanded(path: str) -> Path:
    """Return a path with `~` expanded where there is such a home."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - that of pathlib raises where there is no home


def home() -> Path:
    """Return the user's home; where there is none, a path at which nothing is."""
    found = expanded("~")
    return found if found.is_absolute() else Path("/nonexistent")


def cache_directory() -> Path:
    """Return the cache shared by all run directories.

    `AUTORESEARCH_CACHE_DIR`, else the platform's cache folder (`$XDG_CACHE_HOME/autoresearch`).
    """
    chosen = os.environ.get("AUTORESEARCH_CACHE_DIR")
    if chosen:
        return expanded(chosen)
    if not expanded("~").is_absolute() and not os.environ.get("XDG_CACHE_HOME"):
        return home() / ".cache" / "autoresearch"  # the library raises, or gives a folder `~`
    from platformdirs import user_cache_path

    return user_cache_path("autoresearch")


def templates_directory() -> Path:
    """Return the folder of templates, in a checkout or in an installed wheel."""
    package = Path(__file__).resolve().parent
    installed = package / "_templates"
    return installed if installed.is_dir() else package.parent / "templates"
