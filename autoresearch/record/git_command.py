"""Runs git commands: their environment, their errors, and the helper process that reads objects.

Every command runs with an explicit repository and index, the configuration of user and system off, no hooks, no
replace refs, no external diffs, no signing, no transport to anywhere, an allow-list of variables, and everything
fsynced before it is reported as done (before git 2.36, objects only). Repository settings that could still matter are
overridden one by one.

Why not GitPython, which `remote.push` uses: its objects, refs and index, and its `get_object_data`, fail in a SHA-256
repository; `Git.execute` passes every `GIT_*` variable of the process on and cannot unset one; its helper process is
not thread-safe; and importing it makes `log` 0.1 s slower.
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

from autoresearch.errors import ErrorKind, PrerequisiteError, WorkError
from autoresearch.record.refs import FETCH

OLDEST_GIT = (2, 32)
"""The first that can be kept from the user's configuration."""
_OLDEST = ".".join(map(str, OLDEST_GIT))
FLUSHING_GIT = (2, 36)
"""The first that flushes refs too; it warns about the setting of those before."""

CONFIGURED_HOOKS_GIT = (2, 54)
"""The first that starts what `hook.NAME.command` says, wherever `core.hooksPath` leads."""

_PASSED = ("PATH", "HOME", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DEVELOPER_DIR")
"""All that git sees of the environment: no keys, should a repository make it start something after all."""

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
    """Return the version of git; each program is asked once.

    Raises:
        PrerequisiteError: it is missing or too old.
    """
    return _version_of(shutil.which("git"))


@functools.cache
def _version_of(path: str | None) -> tuple[int, ...]:
    if path is None:
        raise _missing()
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    except OSError as exc:
        raise _missing() from exc
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    version = tuple(int(part) for part in found.group().split(".")) if found else ()
    if version < OLDEST_GIT:
        raise PrerequisiteError(
            f"git {found.group()} at `{path}` is too old" if found else f"`{path}` is not git",
            hint=f"install git {_OLDEST} or newer",
            kind="git_missing",
        )
    return version


def git_environment(
    root: Path, git_dir: Path | None = None, common_dir: Path | None = None
) -> dict[str, str]:
    """Return the whole environment of a git command: nothing that git would read of the user's.

    Args:
        root: Its working tree.
        git_dir: Of this working tree; None where git is to find, or to make, it in `root`.
        common_dir: Shared by all working trees of the repository.

    Raises:
        PrerequisiteError: git is missing or too old.
    """
    fixed = {
        **{name: os.environ[name] for name in _PASSED if name in os.environ},
        # A missing object may name a remote to fetch it from, and that a command to run.
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
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
    if git_dir is not None and git_version() >= CONFIGURED_HOOKS_GIT:
        asked = ["config", "-z", "--name-only", "--get-regexp", r"^hook\..*\."]
        _, out = run_git(asked, b"", fixed, root, ok=(0, 1))
        keys = out.decode("utf-8", "surrogateescape").split("\0")
        settings |= {f"{key.rpartition('.')[0]}.enabled": "false" for key in keys if key}
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
    """Run git in `root` and return its exit code, one of `ok`, and what it printed; it inherits `kept_open`.

    Raises:
        PrerequisiteError: git is missing.
        WorkError: as `explain` says.
    """
    with _start(args, environment, root, subprocess.PIPE, kept_open) as process:
        try:
            out, err = process.communicate(stdin)
        except BaseException:  # KeyboardInterrupt: the write lock is given back next
            process.kill()
            raise
    if process.returncode not in ok:
        raise explain(args[0], process.returncode, err.decode("utf-8", "replace"), root)
    return process.returncode, out


def _start(
    args: Sequence[str],
    environment: Mapping[str, str],
    root: Path,
    stderr: int,
    kept_open: Sequence[int] = (),
) -> "subprocess.Popen[bytes]":
    """Start git in a new process group, so that Ctrl-C does not cut a ref transaction in half."""
    try:
        return subprocess.Popen(
            ["git", *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=root,
            env=environment,
            start_new_session=True,
            pass_fds=kept_open,
        )
    except OSError as exc:
        if root.is_dir() and shutil.which("git") is None:
            raise _missing() from exc
        raise gone(root, environment) from exc


class Reader:
    """A `git cat-file --batch` that answers one name after the other; started when first asked.

    May be used from several threads.
    """

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self._root = root
        self._environment = environment
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, name: str, *, may_retry: bool = True) -> tuple[str, str, bytes] | None:
        """Return (sha, type, content) of any object name, or None where there is none.

        Raises:
            WorkError: git cannot be started here, or the run directory is gone.
        """
        if not name or "\n" in name or "\0" in name:
            return None
        with self._lock:
            try:
                return self._ask(os.fsencode(name))
            except (OSError, EOFError) as exc:  # it was killed
                self.close()
                if not may_retry:
                    raise gone(self._root, self._environment) from exc
                return self.read(name, may_retry=False)

    def _ask(self, name: bytes) -> tuple[str, str, bytes] | None:
        if self._process is None:
            self._process = _start(
                ["cat-file", "--batch"], self._environment, self._root, subprocess.DEVNULL
            )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(name + b"\n")
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

    def close(self) -> None:
        """End the process; the next question starts another one."""
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                with contextlib.suppress(OSError), process:  # it died with something still to read
                    pass


def _missing() -> PrerequisiteError:
    return PrerequisiteError(
        "the program `git` is missing",
        hint=f"install git {_OLDEST} or newer, e.g. `apt install git`",
        kind="git_missing",
    )


def gone(root: Path, environment: Mapping[str, str]) -> WorkError:
    """Return the error of a run directory in which git no longer starts."""
    if not (root / ".git").exists():
        message = f"the run directory `{root}` was moved or deleted"
        hint = "run `autoresearch run` in its new place: the session continues there"
    elif is_partial(environment.get("GIT_OBJECT_DIRECTORY", "")):
        return partial(root)
    else:
        message, hint = f"git cannot be started in `{root}`", "look at `git status` there"
    return WorkError(message, hint=hint, kind="git")


def is_partial(objects: str) -> bool:
    """Whether a folder of objects holds some whose neighbours git left at a remote."""
    return any(Path(objects, "pack").glob("*.promisor"))


def partial(root: Path) -> WorkError:
    """Return the error of a clone that lacks objects, which the lab never fetches unasked."""
    return WorkError(
        f"`{root}` is a partial clone, and lacks files that are needed here",
        hint="fetch all of it: `git config --unset-all remote.origin.partialclonefilter;"
        f" {FETCH} '+refs/heads/*:refs/remotes/origin/*' --refetch` (git 2.36 or"
        " newer; else clone it without a filter)",
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


def explain(verb: str, code: int, stderr: str, root: Path) -> WorkError:
    """Return the error a failed git command means."""
    line = next(filter(None, map(str.strip, stderr.splitlines())), f"exit code {code}")
    reason = line.removeprefix("fatal: ")
    text = stderr.lower()

    def says(marks: Sequence[str]) -> bool:
        return any(mark in text for mark in marks)

    if code < 0 or code > 128 + 1:
        return GitKilledError(
            f"`git {verb}` was killed (exit code {code})",
            hint="`autoresearch run` continues where it stopped",
        )
    kind: ErrorKind = "disk"
    if says(_FULL) or _is_full(root):  # git does not always say why
        message = f"the disk that holds `{root}` is full"
        hint = "free some space, then the same command continues where it stopped"
    elif says(_FORBIDDEN):
        message = f"cannot write to the repository in `{root}`: {reason}"
        hint = "make it writable, then the same command continues where it stopped"
    elif ".lock': file exists" in text:
        found = re.search(r"'([^'\n]*\.lock)': File exists", stderr)
        path = found.group(1) if found else "a lock file"
        return RefLockedError(
            f"git lock file `{path}` exists",
            hint=f"if no git command is running here, remove it: `rm {path}`",
        )
    elif says(("cannot lock ref", "reference already exists")):
        return RefMovedError(f"another process moved a ref: {reason}")
    elif says(("promisor remote", "lazy fetching disabled")):
        return partial(root)
    elif "not a git repository" in text or not root.is_dir():
        return gone(root, {})
    elif says(_NOT_WRITTEN):
        message, hint = f"git cannot write in `{root}`: {line}", "is the disk full? `df -h .`"
    else:
        message, hint = f"`git {verb}` failed: {line}", "look at the repository with `git fsck`"
        kind = "git"
    return WorkError(message, hint=hint, kind=kind)
