"""The only door to git: objects, refs, diffs and merges by plumbing commands.

Every command runs with an explicit repository and index, the person's and the system's configuration off, no hooks,
no replace refs, no external diffs, no signing, and everything fsynced before it is reported as done
(`core.fsync=all`). Repository settings that could still matter are overridden one by one. Free text goes in on
standard input. Only `push` and `fetch` see the person's configuration, because they need addresses and keys.

A `Repository` may be used from several threads. Children start in their own session, so that a Ctrl-C in the terminal
does not cut a ref transaction in half.
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from autoresearch.errors import AutoresearchError, PrerequisiteError, WorkError

AUTHOR = ("autoresearch", "autoresearch@localhost")
REGULAR, EXECUTABLE, SYMLINK, TREE = "100644", "100755", "120000", "40000"

_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.attributesFile": "/dev/null",
    "core.fsync": "all",
    "core.fsyncMethod": "fsync",
    "core.fsmonitor": "false",
    "core.autocrlf": "false",
    "core.quotePath": "false",
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


@dataclass(frozen=True)
class Entry:
    """One file of a tree."""

    mode: str
    sha: str


@dataclass(frozen=True)
class RefUpdate:
    """One ref of a transaction. `old` "" means that the ref must not exist; None that any value is fine."""

    ref: str
    new: str
    old: str | None


class Repository:
    """One git repository, seen from the folder that holds its working tree."""

    def __init__(self, root: Path, git_dir: Path, common_dir: Path) -> None:
        self.root = root
        self.git_dir = git_dir
        """Of this working tree."""
        self.common_dir = common_dir
        """Shared by all working trees of the repository."""
        self._environment = _environment(root, git_dir, common_dir)
        self._lock = threading.RLock()
        self.kept_open: tuple[int, ...] = ()
        """Descriptors that git commands inherit: the write lock lives until the last command is done."""
        self._reader: subprocess.Popen[bytes] | None = None

    # Opening and closing

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the repository whose working tree is `path` itself, not one around it.

        Raises:
            PrerequisiteError: there is none, or git is missing.
        """
        git_dir = _git_dir(Path(path))
        if git_dir is None:
            raise PrerequisiteError(
                f"`{path}` is not a git repository",
                hint="make a run directory with `autoresearch init myrun`",
                kind="not_a_run_directory",
            )
        shared = git_dir / "commondir"  # a linked working tree
        common_dir = git_dir
        if shared.is_file():
            common_dir = (git_dir / shared.read_text(encoding="utf-8").strip()).resolve()
        return cls(Path(path), git_dir, common_dir)

    @classmethod
    def init(cls, path: Path, tag: str) -> Self:
        """Open the repository at `path`, or make one whose first branch is `autoresearch/<tag>`.

        Raises:
            UsageError: the tag cannot be part of a branch name.
        """
        from autoresearch.lab.names import branch_ref, check_tag

        check_tag(tag)
        path.mkdir(parents=True, exist_ok=True)
        if not (path / ".git").exists():
            environment = {
                name: value
                for name, value in _environment(path, path / ".git", path / ".git").items()
                if name not in _PLACES
            }
            for command in (
                ["init", "--quiet", "--template="],
                ["symbolic-ref", "HEAD", branch_ref(tag)],
            ):
                _execute(command, b"", environment, path)
        repository = cls.open(path)
        if repository.ref("refs/heads/autoresearch"):
            repository.close()
            raise PrerequisiteError(
                "a branch is named `autoresearch`, so git cannot hold "
                f"`autoresearch/{tag}` beside it",
                hint="rename it: `git branch -m autoresearch main`",
                kind="git",
            )
        return repository

    def close(self) -> None:
        """End the helper process; the object may still be used and starts it again."""
        with self._lock:
            reader, self._reader = self._reader, None
            if reader is not None:
                assert reader.stdin is not None
                assert reader.stdout is not None
                with contextlib.suppress(OSError):  # it died with something still to read
                    reader.stdin.close()
                reader.stdout.close()
                reader.wait()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Running git

    def run(
        self,
        *args: str,
        stdin: bytes = b"",
        ok: Sequence[int] = (0,),
        environment: Mapping[str, str] | None = None,
    ) -> bytes:
        """Run one git command and return what it printed.

        Raises:
            WorkError: it failed; kind `disk` when the disk is full or read-only.
            RefMovedError, RefLockedError: see there.
        """
        merged = {**self._environment, **(environment or {})}
        return _execute(args, stdin, merged, self.root, ok, self.kept_open)[1]

    def _read(self, name: str) -> tuple[str, str, bytes] | None:
        """Return (sha, type, content) of any object name, or None where there is none."""
        if "\n" in name or not name:
            return None
        found = None
        with self._lock:
            for attempt in (0, 1):
                if self._reader is None:
                    self._reader = self._start_reader()
                try:
                    found = _ask(self._reader, name)
                    break
                except (OSError, EOFError) as exc:
                    self.close()
                    if attempt:
                        raise _gone(self.root) from exc
        if found is None and not self.git_dir.is_dir():  # or it would seem that nothing was there
            raise _gone(self.root)
        return found

    def _start_reader(self) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                ["git", "cat-file", "--batch"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self.root,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as exc:
            raise _not_started(self.root) from exc

    # Objects

    def blob(self, sha: str) -> bytes:
        """Return the bytes of a blob (or of any name that leads to one, `<commit>:<path>`)."""
        return self._object(sha, "blob")

    def _object(self, name: str, kind: str) -> bytes:
        found = self._read(name)
        if found is None or found[1] != kind:
            raise WorkError(
                f"the repository has no {kind} `{name}`",
                hint="was the record fetched whole? "
                "`git fetch origin 'refs/autoresearch/*:refs/autoresearch/*'`",
                kind="record",
            )
        return found[2]

    def tree(self, commit: str) -> str:
        """Return the sha of a commit's tree."""
        return self._object(commit, "commit").split(b"\n", 1)[0].split()[1].decode()

    def parents(self, commit: str) -> list[str]:
        """Return the shas of a commit's parents."""
        header = self._object(commit, "commit").split(b"\n\n", 1)[0]
        return [line[7:].decode() for line in header.split(b"\n") if line.startswith(b"parent ")]

    def message(self, commit: str) -> str:
        """Return a commit's message."""
        return self._object(commit, "commit").split(b"\n\n", 1)[1].decode("utf-8", "replace")

    def entries(self, commit: str) -> dict[str, Entry]:
        """Return every file of a commit: path -> mode and blob; submodules are left out."""
        return dict(self._walk(self.tree(commit), ""))

    def _walk(self, tree: str, prefix: str) -> Iterator[tuple[str, Entry]]:
        size = len(tree) // 2
        data = self._object(tree, "tree")
        position = 0
        while position < len(data):
            space = data.index(b" ", position)
            end = data.index(b"\0", space)
            mode = data[position:space].decode()
            path = prefix + os.fsdecode(data[space + 1 : end])
            sha = data[end + 1 : end + 1 + size].hex()
            position = end + 1 + size
            if mode == TREE:
                yield from self._walk(sha, path + "/")
            elif mode != "160000":
                yield path, Entry(mode, sha)

    def files_at(self, commit: str) -> dict[str, bytes]:
        """Return every regular file of a commit: path -> content."""
        return {
            path: self.blob(entry.sha)
            for path, entry in self.entries(commit).items()
            if entry.mode != SYMLINK
        }

    def file_at(self, commit: str, path: str) -> bytes | None:
        """Return one file of a commit, None where it has none."""
        found = self._read(f"{commit}:{path}")
        return found[2] if found is not None and found[1] == "blob" else None

    def write_blob(self, content: bytes) -> str:
        """Store bytes as they are and return the sha."""
        return self._line("hash-object", "-w", "--no-filters", "--stdin", stdin=content)

    def write_tree(self, entries: Mapping[str, Entry]) -> str:
        """Store a tree of files (paths with `/`, in bytes order as git wants it) and return its sha."""
        here: dict[str, Entry] = {}
        below: dict[str, dict[str, Entry]] = {}
        for path, entry in entries.items():
            first, slash, rest = path.partition("/")
            if slash:
                below.setdefault(first, {})[rest] = entry
            else:
                here[first] = entry
        for name, inner in below.items():
            here[name] = Entry(TREE, self.write_tree(inner))
        ordered = sorted(
            (os.fsencode(name) + (b"/" if e.mode == TREE else b""), e) for name, e in here.items()
        )
        content = b"".join(
            b"%s %s\0%s" % (e.mode.encode(), name.rstrip(b"/"), bytes.fromhex(e.sha))
            for name, e in ordered
        )
        # Not `git mktree`, which does not read core.fsync.
        return self._line("hash-object", "-w", "-t", "tree", "--stdin", stdin=content)

    def write_commit(self, tree: str, parents: Iterable[str], message: str, at: str) -> str:
        """Store a commit and return its sha; no ref moves.

        Args:
            tree: Sha of its tree.
            parents: Shas, the first one first.
            message: Any text without NUL.
            at: UTC time, ISO 8601; the date of author and committer.
        """
        args = [part for parent in parents for part in ("-p", parent)]
        name, email = AUTHOR
        identity = {
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")
            for key, value in (("NAME", name), ("EMAIL", email), ("DATE", at))
        }
        return self._line(
            "commit-tree",
            tree,
            *args,
            "-F",
            "-",
            stdin=message.encode("utf-8", "replace"),
            environment=identity,
        )

    def _line(self, *args: str, **options: Any) -> str:
        return self.run(*args, **options).decode().strip()

    # Refs

    def ref(self, name: str) -> str | None:
        """Return the commit a full ref name points at, None if there is no such ref."""
        found = self._read(name)
        return found[0] if found is not None else None

    def rev_parse(self, name: str) -> str | None:
        """Return the full sha of the commit `name` means (sha prefix, ref, `HEAD~2`), else None."""
        if not name or name.startswith("-") or "\n" in name or "\0" in name:
            return None
        out = self.run(
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            f"{name}^{{commit}}",
            ok=(0, 1, 128),
        )
        return out.decode().split("\n")[-2] if out else None

    def refs(self, prefix: str) -> dict[str, tuple[str, int]]:
        """Return full ref name -> (sha, committer's time in seconds), newest commit first."""
        out = self.run(
            "for-each-ref",
            "--sort=-committerdate",
            "--format=%(refname) %(objectname) %(committerdate:unix)",
            prefix,
        ).decode()
        found = {}
        for line in out.splitlines():
            name, sha, *date = line.split(" ")
            found[name] = (sha, int(date[0]) if date and date[0] else 0)
        return found

    def head(self) -> str | None:
        """Return the full name of the branch HEAD is on, None when HEAD is detached."""
        out = self.run("symbolic-ref", "--quiet", "HEAD", ok=(0, 1)).decode().strip()
        return out or None

    def set_head(self, ref: str) -> None:
        """Put HEAD on a branch; index and working tree stay as they are."""
        self.run("symbolic-ref", "-m", "autoresearch", "HEAD", ref)

    def update_refs(self, updates: Sequence[RefUpdate], reason: str) -> None:
        """Move several refs in one transaction: all or none.

        Raises:
            RefMovedError: a ref does not hold its expected old value.
            RefLockedError: somebody holds a ref's lock file.
        """
        lines = ["start"]
        for update in updates:
            if update.old is None:
                lines.append(f"update {update.ref}\0{update.new}\0")
            elif update.old:
                lines.append(f"update {update.ref}\0{update.new}\0{update.old}")
            else:
                lines.append(f"create {update.ref}\0{update.new}")
        lines += ["prepare", "commit"]
        stdin = "".join(line + "\0" for line in lines).encode()
        self.run("update-ref", "-m", f"autoresearch: {reason}", "--stdin", "-z", stdin=stdin)

    def delete_ref(self, name: str, old: str) -> None:
        """Delete a ref that holds `old`."""
        self.run("update-ref", "-d", name, old)

    # History

    def chain(self, tip: str, after: str | None = None) -> Iterator[tuple[str, list[str], str]]:
        """Yield (sha, parents, message) along first parents, oldest first.

        Args:
            tip: The newest commit.
            after: A commit of the chain; only what came after it.
        """
        args = ["rev-list", "--first-parent", "--reverse", "--format=%P%x00%B%x00", tip]
        if after:
            args.append(f"^{after}")
        parts = self.run(*args).split(b"\0")
        for header, message in zip(parts[0::2], parts[1::2], strict=False):
            name, _, parents = header.strip(b"\n").partition(b"\n")
            yield (
                name.removeprefix(b"commit ").decode(),
                parents.decode().split(),
                message.decode("utf-8", "replace"),
            )

    def line(self, tip: str, after: str | None = None) -> list[str]:
        """Return the shas along first parents from `tip` back, newest first, down to `after`."""
        args = ["rev-list", "--first-parent", tip, *([f"^{after}"] if after else [])]
        return self.run(*args).decode().split()

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether `old` is `new` or lies behind it."""
        try:
            self.run("merge-base", "--is-ancestor", old, new)
        except WorkError:
            return False
        return True

    # Differences

    def diff(self, a: str, b: str, paths: Sequence[str] = ()) -> str:
        """Return the unified diff from commit `a` to commit `b`; `git apply` takes it."""
        out = self.run(
            "diff-tree", "-p", "-U3", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames",
            "--src-prefix=a/", "--dst-prefix=b/", "--diff-algorithm=histogram", a, b, "--", *paths,
        )  # fmt: skip
        return out.decode("utf-8", "replace")

    def count_lines(self, a: str, b: str, paths: Sequence[str] = ()) -> tuple[int, int]:
        """Return (lines added, lines removed) from commit `a` to commit `b`; binary files count 0."""
        out = self.run(
            "diff-tree", "-r", "--numstat", "-z", "--no-ext-diff", "--no-textconv", "--no-renames",
            "--diff-algorithm=histogram", a, b, "--", *paths,
        )  # fmt: skip
        added = removed = 0
        for record in filter(None, out.split(b"\0")):
            plus, minus, _ = record.split(b"\t", 2)
            added += int(plus) if plus != b"-" else 0
            removed += int(minus) if minus != b"-" else 0
        return added, removed

    def changed_paths(self, a: str, b: str) -> list[str]:
        """Return the paths whose content or mode differs between two commits."""
        ours, theirs = self.entries(a), self.entries(b)
        return sorted(p for p in ours.keys() | theirs.keys() if ours.get(p) != theirs.get(p))

    def merge3(self, base: str, ours: str, theirs: str) -> str | None:
        """Return `ours` with the change from `base` to `theirs` applied, None when they collide."""
        merged = self.merge3_bytes(base.encode(), ours.encode(), theirs.encode())
        return None if merged is None else merged.decode()

    def merge3_bytes(self, base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
        """As `merge3`, for bytes."""
        if ours in (base, theirs):
            return theirs
        if theirs == base:
            return ours
        with tempfile.TemporaryDirectory(prefix="autoresearch-merge-") as folder:
            paths = [str(Path(folder, name)) for name in ("ours", "base", "theirs")]
            for path, content in zip(paths, (ours, base, theirs), strict=True):
                Path(path).write_bytes(content)
            code, out = _execute(
                ["merge-file", "-p", "--quiet", *paths],
                b"",
                self._environment,
                self.root,
                ok=range(256),
            )
        return out if code == 0 else None

    # The person's index

    def index_entries(self, paths: Sequence[str]) -> dict[str, Entry]:
        """Return path -> staged entry, for those of `paths` that are in the index, unmerged ones left out."""
        if not paths:
            return {}
        out = self.run("ls-files", "-s", "-z", "--", *paths)
        found = {}
        for record in filter(None, out.split(b"\0")):
            head, name = record.split(b"\t", 1)
            mode, sha, stage = head.decode().split()
            if stage == "0":
                found[os.fsdecode(name)] = Entry(mode, sha)
        return found

    def stage(self, entries: Mapping[str, Entry | None]) -> None:
        """Set index entries; None removes one. Files are not looked at.

        Raises:
            RefLockedError: the person's git holds the index.
        """
        lines = []
        nothing = "0" * len(self.ref("HEAD") or "0" * 40)
        for path, entry in entries.items():
            mode, sha = (entry.mode, entry.sha) if entry else ("0", nothing)
            lines.append(f"{mode} {sha}\t".encode() + os.fsencode(path) + b"\0")
        self.run("update-index", "-z", "--index-info", stdin=b"".join(lines))

    # Size

    def num_loose_objects(self) -> int:
        """Return about how many objects are not packed, from a sample as `git gc` takes it."""
        try:
            return 256 * sum(1 for _ in os.scandir(self.common_dir / "objects" / "17"))
        except OSError:
            return 0

    def pack(self) -> None:
        """Gather loose objects and small packs in one pack; nothing is dropped, reachable or not."""
        self.run("repack", "-d", "-l", "-q", "--geometric=2", "--window-memory=64m", "--threads=1")


def _git_dir(root: Path) -> Path | None:
    """Return the git directory of a working tree; the environment has no say in it."""
    found = root / ".git"
    if found.is_file():  # a linked working tree or a submodule
        text = found.read_text(encoding="utf-8", errors="surrogateescape").strip()
        found = root / text.removeprefix("gitdir: ")
    return found.resolve() if (found / "HEAD").is_file() else None


_PLACES = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"
)  # fmt: skip


def _environment(root: Path, git_dir: Path, common_dir: Path) -> dict[str, str]:
    """Return the whole environment of a git command: the person's less everything git would read."""
    fixed = {
        **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
        "GIT_DIR": str(git_dir),
        "GIT_WORK_TREE": str(root),
        "GIT_COMMON_DIR": str(common_dir),
        "GIT_INDEX_FILE": str(git_dir / "index"),
        "GIT_OBJECT_DIRECTORY": str(common_dir / "objects"),
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
    fixed["GIT_CONFIG_COUNT"] = str(len(_SETTINGS))
    for number, (key, value) in enumerate(_SETTINGS.items()):
        fixed[f"GIT_CONFIG_KEY_{number}"] = key
        fixed[f"GIT_CONFIG_VALUE_{number}"] = value
    return fixed


def _execute(
    args: Sequence[str],
    stdin: bytes,
    environment: Mapping[str, str],
    root: Path,
    ok: Iterable[int] = (0,),
    kept_open: Sequence[int] = (),
) -> tuple[int, bytes]:
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


def _ask(reader: "subprocess.Popen[bytes]", name: str) -> tuple[str, str, bytes] | None:
    stdin, stdout = reader.stdin, reader.stdout
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


def _not_started(root: Path) -> AutoresearchError:
    if root.is_dir() and shutil.which("git") is None:
        return PrerequisiteError(
            "the program `git` is missing",
            hint="install git 2.32 or newer, e.g. `apt install git`",
            kind="git_missing",
        )
    return _gone(root)


def _gone(root: Path) -> AutoresearchError:
    if root.is_dir() and (root / ".git").exists():
        return WorkError(
            f"git cannot be started in `{root}`", hint="look at `git status` there", kind="git"
        )
    return WorkError(
        f"the run directory `{root}` was moved or deleted",
        hint="go to its new place and `autoresearch run` there: the session goes on",
        kind="git",
    )


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
    if any(mark in text for mark in ("no space left", "quota exceeded", "out of diskspace")):
        return WorkError(
            f"the disk that holds `{root}` is full",
            hint="free some space, then `autoresearch run` goes on where it stopped",
            kind="disk",
        )
    if "read-only file system" in text or "permission denied" in text:
        return WorkError(
            f"cannot write to the repository in `{root}`: {line.removeprefix('fatal: ')}",
            hint="make it writable, then `autoresearch run` goes on where it stopped",
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
        return _gone(root)
    if "broken pipe" in text or "unable to write" in text or "failed to write" in text:
        return WorkError(
            f"git cannot write in `{root}`: {line}",
            hint="is the disk full? `df -h .`",
            kind="disk",
        )
    return WorkError(
        f"`git {verb}` failed: {line}", hint="look at the repository with `git fsck`", kind="git"
    )
