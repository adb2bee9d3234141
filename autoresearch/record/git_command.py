"""Running one git command: its environment, its errors, and the helper process that reads objects.

Every command runs with an explicit repository and index, the person's and the system's configuration off, no hooks,
no replace refs, no external diffs, no signing, and everything fsynced before it is reported as done (before git 2.36,
objects only). Repository settings that could still matter are overridden one by one.

Children start in their own session, so that a Ctrl-C in the terminal does not cut a ref transaction in half.
"""

import contextlib
import functools
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from autoresearch.errors import AutoresearchError, PrerequisiteError, WorkError

OLDEST_GIT = (2, 32)
"""The first that can be kept from the person's configuration."""
FLUSHING_GIT = (2, 36)
"""The first that flushes refs too; it warns about the setting of those before."""

_FLUSH = {"core.fsync": "all", "core.fsyncMethod": "fsync"}
_FLUSH_OBJECTS = {"core.fsyncObjectFiles": "true"}
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.attributesFile": "/dev/null",
    "core.fsmonitor": "false",
    "core.autocrlf": "false",
    "core.quotePath": "false",
    "core.abbrev": "auto",
    "core.useReplaceRefs": "false",
    "core.filesRefLockTimeout": "2000",
    "core.packedRefsTimeout": "5000",
    "diff.suppressBlankEmpty": "false",
    "i18n.commitEncoding": "UTF-8",
    "i18n.logOutputEncoding": "UTF-8",
    "log.showSignature": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
}


class RefMovedError(WorkError):
    """A ref did not hold the value the transaction expected; nothing was changed."""

    default_kind = "git"


class RefLockedError(WorkError):
    """A ref's `.lock` file is there; nothing was changed."""

    default_kind = "git"


class GitKilledError(WorkError):
    """A git command was killed and may have left lock files."""

    default_kind = "git"


class ConflictError(WorkError):
    """Two changes touch the same lines."""

    default_kind = "conflict"


def git_version() -> tuple[int, ...]:
    """Return the version of git; asked once.

    Raises:
        PrerequisiteError: it is missing or too old.
    """
    path = shutil.which("git")
    if path is None:
        raise _missing()
    return _version_of(path)


@functools.cache
def _version_of(path: str) -> tuple[int, ...]:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    except OSError as exc:
        raise _missing() from exc
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    version = tuple(int(part) for part in found.group().split(".")) if found else ()
    if version < OLDEST_GIT:
        what = f"git {found.group()} at `{path}` is too old" if found else f"`{path}` is not git"
        raise PrerequisiteError(
            what,
            hint=f"install git {_dotted(OLDEST_GIT)} or newer",
            kind="git_missing",
        )
    return version


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def git_environment(
    root: Path, git_dir: Path | None = None, common_dir: Path | None = None
) -> dict[str, str]:
    """Return the whole environment of a git command: the person's less everything git would read.

    Args:
        root: Its working tree.
        git_dir: Of this working tree; None where git is to find, or to make, it in `root`.
        common_dir: Shared by all working trees of the repository.

    Raises:
        PrerequisiteError: git is missing or too old.
    """
    fixed = {
        **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_PAGER": "cat",
        "LC_ALL": "C",
        "LANGUAGE": "C",
    }
    if git_dir is not None and common_dir is not None:
        fixed |= {
            "GIT_DIR": str(git_dir),
            "GIT_WORK_TREE": str(root),
            "GIT_COMMON_DIR": str(common_dir),
            "GIT_INDEX_FILE": str(git_dir / "index"),
            "GIT_OBJECT_DIRECTORY": str(common_dir / "objects"),
        }
    settings = _SETTINGS | (_FLUSH if git_version() >= FLUSHING_GIT else _FLUSH_OBJECTS)
    fixed["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (key, value) in enumerate(settings.items()):
        fixed[f"GIT_CONFIG_KEY_{number}"] = key
        fixed[f"GIT_CONFIG_VALUE_{number}"] = value
    return fixed


def run_git(
    args: Sequence[str],
    stdin: bytes,
    environment: Mapping[str, str],
    root: Path,
    ok: Iterable[int] = (0,),
    kept_open: Sequence[int] = (),
) -> tuple[int, bytes]:
    """Run git and return its exit code and what it printed.

    Args:
        args: Of git.
        stdin: Its input.
        environment: As `git_environment` gives it.
        root: Where it runs.
        ok: Exit codes that are no failure.
        kept_open: Descriptors that it inherits.

    Raises:
        AutoresearchError: as `explain` says.
    """
    try:
        done = subprocess.run(
            ["git", *args],
            input=stdin,
            capture_output=True,
            cwd=root,
            env=environment,
            start_new_session=True,
            pass_fds=kept_open,
            check=False,
        )
    except OSError as exc:
        raise _not_started(root) from exc
    if done.returncode not in ok:
        raise explain(args[0], done.returncode, done.stderr.decode("utf-8", "replace"), root)
    return done.returncode, done.stdout


class Reader:
    """A `git cat-file --batch` that answers one name after the other; started when first asked.

    May be used from several threads.
    """

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self._root = root
        self._environment = environment
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, name: str) -> tuple[str, str, bytes] | None:
        """Return (sha, type, content) of any object name, or None where there is none.

        Raises:
            WorkError: git cannot be started here, or the run directory is gone.
        """
        if "\n" in name or not name:
            return None
        with self._lock:
            try:
                return self._ask(name)
            except (OSError, EOFError):
                self.close()  # it was killed
            try:
                return self._ask(name)
            except (OSError, EOFError) as exc:
                self.close()
                raise gone(self._root) from exc

    def _ask(self, name: str) -> tuple[str, str, bytes] | None:
        process = self._process = self._process or self._start()
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(os.fsencode(name) + b"\n")
        stdin.flush()
        header = stdout.readline()
        if not header:
            raise EOFError
        fields = header.decode("utf-8", "replace").rstrip("\n").rsplit(" ", 2)
        if len(fields) != 3 or not fields[2].isdigit():
            return None  # "<name> missing" or "<name> ambiguous"
        content = stdout.read(int(fields[2]))
        stdout.read(1)
        return fields[0], fields[1], content

    def _start(self) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                ["git", "cat-file", "--batch"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self._root,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as exc:
            raise _not_started(self._root) from exc

    def close(self) -> None:
        """End the process; the next question starts another one."""
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                assert process.stdin is not None
                assert process.stdout is not None
                with contextlib.suppress(OSError):  # it died with something still to read
                    process.stdin.close()
                process.stdout.close()
                process.wait()


def _not_started(root: Path) -> AutoresearchError:
    if root.is_dir() and shutil.which("git") is None:
        return _missing()
    return gone(root)


def _missing() -> PrerequisiteError:
    return PrerequisiteError(
        "the program `git` is missing",
        hint=f"install git {_dotted(OLDEST_GIT)} or newer, e.g. `apt install git`",
        kind="git_missing",
    )


def gone(root: Path) -> AutoresearchError:
    """Return the error of a run directory in which git no longer starts."""
    if root.is_dir() and (root / ".git").exists():
        return WorkError(
            f"git cannot be started in `{root}`", hint="look at `git status` there", kind="git"
        )
    return WorkError(
        f"the run directory `{root}` was moved or deleted",
        hint="go to its new place and `autoresearch run` there: the session goes on",
        kind="git",
    )


_FULL = ("no space left", "quota exceeded", "out of diskspace")
_FORBIDDEN = (
    "read-only file system",
    "permission denied",
    "insufficient permission",
    "operation not permitted",
)
_NOT_WRITTEN = ("broken pipe", "unable to write", "failed to write", "couldn't write")
_FULL_BYTES = 16_384
"""With less room git cannot write its next object and ref."""


def _is_full(root: Path) -> bool:
    try:
        return shutil.disk_usage(root).free < _FULL_BYTES
    except OSError:
        return False


def explain(verb: str, code: int, stderr: str, root: Path) -> AutoresearchError:
    """Return the error a failed git command means."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    line = lines[0] if lines else f"exit code {code}"
    text = stderr.lower()
    if code < 0 or code > 128 + 1:
        return GitKilledError(
            f"`git {verb}` was killed (exit code {code})",
            hint="`autoresearch run` goes on where it stopped",
        )
    if any(mark in text for mark in _FULL) or _is_full(root):  # git does not always say why
        return WorkError(
            f"the disk that holds `{root}` is full",
            hint="free some space, then the same command goes on where it stopped",
            kind="disk",
        )
    if any(mark in text for mark in _FORBIDDEN):
        return WorkError(
            f"cannot write to the repository in `{root}`: {line.removeprefix('fatal: ')}",
            hint="make it writable, then the same command goes on where it stopped",
            kind="disk",
        )
    if ".lock': file exists" in text:
        found = re.search(r"'([^'\n]*\.lock)': File exists", stderr)
        path = found.group(1) if found else "a lock file"
        return RefLockedError(
            f"git's lock file `{path}` is there",
            hint=f"if no git command is running here, remove it: `rm {path}`",
        )
    if "cannot lock ref" in text or "reference already exists" in text:
        return RefMovedError(f"a ref was moved by somebody else: {line.removeprefix('fatal: ')}")
    if "not a git repository" in text or not root.is_dir():
        return gone(root)
    if any(mark in text for mark in _NOT_WRITTEN):
        return WorkError(
            f"git cannot write in `{root}`: {line}",
            hint="is the disk full? `df -h .`",
            kind="disk",
        )
    return WorkError(
        f"`git {verb}` failed: {line}", hint="look at the repository with `git fsck`", kind="git"
    )
