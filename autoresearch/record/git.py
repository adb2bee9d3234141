"""The only door to git: objects, refs, diffs, merges and the index of one repository, by plumbing commands.

How a command runs, and what of the user's configuration it does not see, is in `git_command.py`. Free text goes in
on standard input. Only `remote.push` sees the user's configuration, because it needs keys and proxies.

A `Repository` may be used from several threads.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from autoresearch.errors import PrerequisiteError, WorkError
from autoresearch.paths import CONFIG_NAME, STATE_NAME, is_safe
from autoresearch.record.git_command import (
    Reader,
    git_environment,
    gone,
    is_partial,
    partial,
    run_git,
)
from autoresearch.record.refs import FETCH, branch_name, check_tag
from autoresearch.util.files import read_file, write_file
from autoresearch.util.text import clean_line

AUTHOR = ("autoresearch", "autoresearch@localhost")
REGULAR, EXECUTABLE, SYMLINK, TREE = "100644", "100755", "120000", "40000"
SUBMODULE = "160000"
"""Its sha is a commit of another repository: there is no object to read."""


@dataclass(frozen=True)
class Entry:
    """One file, link or submodule of a tree."""

    mode: str
    sha: str

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file, executable or not."""
        return self.mode not in (SYMLINK, SUBMODULE)


@dataclass(frozen=True)
class RefUpdate:
    """One ref of a transaction. `old` "" means that the ref must not exist; None that any value is fine."""

    ref: str
    new: str
    old: str | None


class Repository(contextlib.AbstractContextManager["Repository"]):
    """One git repository, seen from the folder that holds its working tree."""

    def __init__(self, root: Path, git_dir: Path, common_dir: Path) -> None:
        self.root = root
        self.git_dir = git_dir
        """Of this working tree."""
        self.common_dir = common_dir
        """Shared by all working trees of the repository."""
        self._environment = git_environment(root, git_dir, common_dir)
        self.kept_open: tuple[int, ...] = ()
        """Descriptors that git commands inherit: the write lock lives until the last command is done."""
        self._reader = Reader(root, self._environment)

    # Opening and closing

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the repository whose working tree is `path` itself, not one around it.

        Raises:
            PrerequisiteError: there is none, or git is missing.
        """
        git_dir = _git_dir(Path(path))
        if git_dir is None:
            is_run_directory = (Path(path) / CONFIG_NAME).is_file()
            raise PrerequisiteError(
                f"`{path}` is not a git repository",
                hint="make it one, with all files as they are: `autoresearch init .`"
                if is_run_directory
                else "make a run directory with `autoresearch init myrun`",
                kind="not_a_run_directory",
            )
        shared = git_dir / "commondir"  # a linked working tree
        common_dir = git_dir
        if shared.is_file():
            common_dir = (git_dir / shared.read_text(encoding="utf-8").strip()).resolve()
        repository = cls(Path(path), git_dir, common_dir)
        repository._check_state()
        return repository

    def _check_state(self) -> None:
        """Check that `.autoresearch/`, which is trusted and cleared, did not come with a checkout."""
        any_case = {"GIT_LITERAL_PATHSPECS": "0", "GIT_ICASE_PATHSPECS": "1"}
        if self.run("ls-files", "-z", "--", STATE_NAME, environment=any_case):
            raise PrerequisiteError(
                f"`{STATE_NAME}` is under git in `{self.root}`: it may come from another machine, or be a trap",
                hint=f"look at it, then `git rm -r --cached {STATE_NAME}` and delete it",
                kind="git",
            )

    @classmethod
    def init(cls, path: Path, tag: str) -> Self:
        """Open the repository at `path`, or make one whose first branch is `autoresearch/<tag>`.

        Raises:
            UsageError: the tag cannot be part of a branch name.
        """
        check_tag(tag)
        path = path.resolve()  # git runs in it, and gets its name
        path.mkdir(parents=True, exist_ok=True)
        if not is_repository(path) and not (path / ".git").is_file():
            branch = f"--initial-branch={branch_name(tag)}"
            run_git(["init", "--quiet", "--template=", branch], b"", git_environment(path), path)
        repository = cls.open(path)
        if repository.ref("refs/heads/autoresearch"):
            repository.close()
            raise PrerequisiteError(
                f"a branch is named `autoresearch`, so git cannot hold `autoresearch/{tag}` too",
                hint="rename it: `git branch -m autoresearch main`",
                kind="git",
            )
        return repository

    def close(self) -> None:
        """End the helper process; the object may still be used and starts it again."""
        self._reader.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

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
        return run_git(args, stdin, merged, self.root, ok, self.kept_open)[1]

    def _read(self, name: str) -> tuple[str, str, bytes] | None:
        """Return (sha, type, content) of any object name, or None where there is none."""
        found = self._reader.read(name)
        if found is None and not self.git_dir.is_dir():  # or it would seem that nothing was there
            raise gone(self.root, self._environment)
        if found is None and ":" in name and self._is_partial:
            known = self.run("rev-parse", "--verify", "--quiet", name, ok=(0, 1, 128))
            if known.strip():  # the tree names it, and the file was left at a remote
                raise partial(self.root)
        return found

    @property
    def _is_partial(self) -> bool:
        return is_partial(self._environment["GIT_OBJECT_DIRECTORY"])

    # Objects

    def blob(self, sha: str) -> bytes:
        """Return the bytes of a blob (or of any name that leads to one, `<commit>:<path>`)."""
        return self._object(sha, "blob")

    def _object(self, name: str, kind: str) -> bytes:
        found = self._read(name)
        if found is None and self._is_partial:
            raise partial(self.root)
        if found is None or found[1] != kind:
            raise WorkError(
                f"the repository has no {kind} `{name}`",
                hint=f"was the record fetched whole? `{FETCH}`",
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
        """Return all that a commit holds, links and submodules too: path -> mode and sha.

        Raises:
            WorkError: a path is not `paths.is_safe`: whoever made the commit did not make it with git.
        """
        found = {}
        for path, entry in self._walk(self.tree(commit), ""):
            if not is_safe(path):
                raise WorkError(
                    f"commit {commit[:12]} holds the path `{clean_line(path)}`, which leads out of its folder"
                    " or into what git and autoresearch keep there: the files of this session are refused",
                    hint="do not use it: it may be an attack; ask who sent it",
                    kind="record",
                )
            found[path] = entry
        return found

    def _walk(self, tree: str, prefix: str) -> Iterator[tuple[str, Entry]]:
        size = len(tree) // 2
        data = self._object(tree, "tree")
        position = 0
        while position < len(data):
            space = data.index(b" ", position)
            end = data.index(b"\0", space)
            mode = data[position:space].decode()
            # A name with a slash in it would pass for a folder.
            path = prefix + os.fsdecode(data[space + 1 : end].replace(b"/", b"\\"))
            sha = data[end + 1 : end + 1 + size].hex()
            position = end + 1 + size
            if mode == TREE:
                yield from self._walk(sha, path + "/")
            else:
                yield path, Entry(mode, sha)

    def files_at(self, commit: str) -> dict[str, bytes]:
        """Return every regular file of a commit: path -> content."""
        return self.contents(self.entries(commit))

    def contents(self, entries: Mapping[str, Entry]) -> dict[str, bytes]:
        """Return the regular files among entries: path -> content."""
        return {path: self.blob(entry.sha) for path, entry in entries.items() if entry.is_file}

    def file_at(self, commit: str, path: str) -> bytes | None:
        """Return one file of a commit, None where it has none."""
        found = self._read(f"{commit}:{path}")
        return found[2] if found is not None and found[1] == "blob" else None

    def write_blob(self, content: bytes) -> str:
        """Store bytes as they are and return the sha."""
        return self._line("hash-object", "-w", "--no-filters", "--stdin", stdin=content)

    def write_tree(self, entries: Mapping[str, Entry]) -> str:
        """Store a tree of entries (paths with `/`, in bytes order as git wants it) and return its sha.

        Raises:
            WorkError: a path leads through an entry that is no folder.
        """
        here: dict[str, Entry] = {}
        below: dict[str, dict[str, Entry]] = {}
        for path, entry in entries.items():
            first, slash, rest = path.partition("/")
            if slash:
                below.setdefault(first, {})[rest] = entry
            else:
                here[first] = entry
        for name, inner in below.items():
            if name in here:
                what = "a submodule" if here[name].mode == SUBMODULE else "no folder"
                raise WorkError(
                    f"`{name}/{next(iter(inner))}` cannot be committed: `{name}` is {what}",
                    hint="name files of this repository in `[task] editable`",
                    kind="git",
                )
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
        """Store a commit and return its sha; no ref moves. `message` holds no NUL, `at` is UTC, ISO 8601."""
        args = [tree, *(f"-p{parent}" for parent in parents), "-F-"]
        who = dict(zip(("NAME", "EMAIL", "DATE"), (*AUTHOR, at), strict=True))
        identity = {
            f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in who.items()
        }
        content = message.encode("utf-8", "replace")
        return self._line("commit-tree", *args, stdin=content, environment=identity)

    def _line(self, *args: str, **options: Any) -> str:
        return self.run(*args, **options).decode().strip()

    # Refs

    def ref(self, name: str) -> str | None:
        """Return the commit a full ref name points at, None if there is no such ref."""
        found = self._read(name)
        return found[0] if found is not None else None

    def rev_parse(self, name: str) -> str | None:
        """Return the full sha of the commit `name` means (sha prefix, ref, `HEAD~2`), else None."""
        return self.ref(f"{name}^{{commit}}")

    def refs(self, prefix: str) -> list[str]:
        """Return the full names of the refs below a prefix, newest commit first."""
        out = self.run("for-each-ref", "--sort=-committerdate", "--format=%(refname)", prefix)
        return out.decode().splitlines()

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
            RefLockedError: another process holds a ref's lock file.
        """
        lines = ["start\0"]
        for update in updates:
            nothing = "0" * len(update.new)
            old = nothing if update.old == "" else update.old or ""
            lines.append(f"update {update.ref}\0{update.new}\0{old}\0")
        stdin = "".join([*lines, "prepare\0commit\0"]).encode()
        self.run("update-ref", "-m", f"autoresearch: {reason}", "--stdin", "-z", stdin=stdin)

    # History

    def chain(self, tip: str, after: str | None = None) -> Iterator[tuple[str, list[str], str]]:
        """Yield (sha, parents, message) along first parents, oldest first, of what came after a commit."""
        commits = [tip, f"^{after}"] if after else [tip]
        how = ("--first-parent", "--reverse", "--format=%P%x00%B%x00")
        parts = self.run("rev-list", *how, *commits).split(b"\0")
        for header, message in zip(parts[0::2], parts[1::2], strict=False):
            name, _, parents = header.strip(b"\n").partition(b"\n")
            yield (
                name.removeprefix(b"commit ").decode(),
                parents.decode().split(),
                message.decode("utf-8", "replace"),
            )

    def shallow(self) -> set[str]:
        """Return the commits whose parents were not fetched, because of a depth."""
        return set((read_file(self.common_dir / "shallow") or b"").decode().split())

    # Differences

    def diff(self, a: str, b: str, paths: Sequence[str] = (), *, is_words: bool = False) -> str:
        """Return the unified diff from commit `a` to commit `b`; `git apply` takes it.

        With `is_words` it shows changed words as `[-old-]{+new+}` within the lines, and cannot be applied.
        """
        how = ["-p", "-U3", "--no-color", "--src-prefix=a/", "--dst-prefix=b/"]
        how += ["--word-diff-regex=[[:alnum:]_.]+|[^[:space:]]"] if is_words else []
        return self._diff_tree(how, a, b, paths).decode("utf-8", "replace")

    def count_lines(self, a: str, b: str) -> tuple[int, int]:
        """Return (lines added, lines removed) from commit `a` to commit `b`; binary files count 0."""
        out = self._diff_tree(("-r", "--numstat", "-z"), a, b, ())
        counts = [record.split(b"\t", 2)[:2] for record in out.split(b"\0") if record]
        added, removed = (sum(int(c[i]) for c in counts if c[i] != b"-") for i in (0, 1))
        return added, removed

    def _diff_tree(self, how: Sequence[str], a: str, b: str, paths: Sequence[str]) -> bytes:
        fixed = ("--no-ext-diff", "--no-textconv", "--no-renames", "--diff-algorithm=histogram")
        return self.run("diff-tree", *how, *fixed, "--end-of-options", a, b, "--", *paths)

    def changed_paths(self, a: str, b: str) -> list[str]:
        """Return the paths whose content or mode differs between two commits."""
        ours, theirs = self.entries(a), self.entries(b)
        return sorted(p for p in ours.keys() | theirs.keys() if ours.get(p) != theirs.get(p))

    def merge3(self, base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
        """Return `ours` with the change from `base` to `theirs` applied, None when they collide."""
        if ours in (base, theirs):
            return theirs
        if theirs == base:
            return ours
        with tempfile.TemporaryDirectory(prefix="autoresearch-merge-") as folder:
            paths = [str(Path(folder, name)) for name in ("ours", "base", "theirs")]
            for path, content in zip(paths, (ours, base, theirs), strict=True):
                Path(path).write_bytes(content)
            args = ["merge-file", "-p", "--quiet", *paths]
            code, out = run_git(args, b"", self._environment, self.root, ok=range(256))
        return out if code == 0 else None

    # The user's index

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
            RefLockedError: a git command of the user holds the index.
        """
        lines = []
        nothing = "0" * len(self.ref("HEAD") or "0" * 40)
        for path, entry in entries.items():
            mode, sha = (entry.mode, entry.sha) if entry else ("0", nothing)
            lines.append(f"{mode} {sha}\t".encode() + os.fsencode(path) + b"\0")
        self.run("update-index", "-z", "--index-info", stdin=b"".join(lines))

    def exclude(self, path: str) -> None:
        """Let `git status` pass over a file of the lab's at the root, also where the user's .gitignore does not."""
        plain = {"GIT_LITERAL_PATHSPECS": "0"}  # the command knows no other paths
        if self.run("check-ignore", "--no-index", "--", path, ok=(0, 1), environment=plain):
            return
        place = (self.common_dir / "info" / "exclude").resolve()
        known = read_file(place) or b""
        end = b"\n" if known and not known.endswith(b"\n") else b""
        write_file(place, known + end + f"/{path}\n".encode())

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


def is_repository(root: Path) -> bool:
    """Whether a working tree is at `root`, with a repository that `git init` got to the end of."""
    return _git_dir(root) is not None


def _git_dir(root: Path) -> Path | None:
    """Return the git directory of a working tree; ignores GIT_DIR and related variables."""
    found = root / ".git"
    if found.is_file():  # a linked working tree or a submodule
        text = found.read_text(encoding="utf-8", errors="surrogateescape").strip()
        found = root / text.removeprefix("gitdir: ")
    elif not all((found / name).exists() for name in ("config", "objects", "refs")):
        return None
    return found.resolve() if (found / "HEAD").is_file() else None
