"""Sending a session to a remote: its branch and its journal, together or not at all, never forced.

The user's configuration applies here, and only here: keys, proxies, credential helpers. Of the repository's, which may
be a stranger's, nothing is read but the address: git runs in an empty repository that borrows the objects, so a command
that the repository names (receive-pack, ssh, a helper, a hook) is not there to be run.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from autoresearch.errors import UsageError, WorkError
from autoresearch.record.git import RefUpdate
from autoresearch.record.record import Record
from autoresearch.record.refs import branch_ref, journal_ref

_PROTOCOLS = "file:git:http:https:ssh"
"""Without `ext`, which runs a command, and other helpers."""


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    remote: str
    refs: tuple[str, ...]
    """All refs of the session that the remote has now."""
    changed: tuple[str, ...]
    """Those that were not the same before."""


def push(record: Record, remote: str = "origin", *, is_interactive: bool = False) -> Pushed:
    """Send a session to a remote, by its name or address; git may ask for a password where `is_interactive`.

    Raises:
        PrerequisiteError: the record here is not whole.
        UsageError: there is no such remote, or it came with the run directory.
        WorkError: the remote refused or cannot be reached.
    """
    import git

    record.check_fetched()
    repository = record.repository
    shas = {
        branch_ref(record.tag): record.branch_tip(),
        journal_ref(record.tag): record.journal_tip(),
    }
    refs = {ref: sha for ref, sha in shas.items() if sha}
    out = ""
    with tempfile.TemporaryDirectory(prefix="autoresearch-push-") as folder:
        hash_name = "sha256" if any(len(sha) == 64 for sha in refs.values()) else "sha1"
        git.Git(folder).init(
            ".", "--quiet", "--bare", "--template=", f"--object-format={hash_name}"
        )
        here = git.Git(record.run_directory.root)
        shallow = repository.common_dir / "shallow"
        here.update_environment(
            GIT_DIR=folder,
            GIT_COMMON_DIR=folder,
            GIT_OBJECT_DIRECTORY=str(repository.common_dir / "objects"),
            GIT_SHALLOW_FILE=str(shallow if shallow.is_file() else Path(folder, "shallow")),
            GIT_ALLOW_PROTOCOL=_PROTOCOLS,
            GIT_NO_LAZY_FETCH="1",
            GIT_TERMINAL_PROMPT="1" if is_interactive else "0",
            LC_ALL="C",
        )
        for address in _addresses(record, remote):
            try:
                out += here(c="core.hooksPath=/dev/null").push(
                    "--atomic",
                    "--no-verify",
                    "--porcelain",
                    "--",
                    address,
                    *(f"{sha}:{ref}" for ref, sha in refs.items()),
                )
            except git.GitCommandError as exc:
                raise _refused(record, remote, str(exc.stderr), str(exc.stdout)) from exc
            out += "\n"
    seen = f"refs/remotes/{remote}/{record.branch}"  # what `git status` compares with
    if repository.ref(seen):
        repository.update_refs([RefUpdate(seen, refs[branch_ref(record.tag)], None)], "push")
    lines = [line.split("\t") for line in out.splitlines() if line[:1] in tuple(" *+")]
    changed = dict.fromkeys(line[1].split(":")[-1] for line in lines)
    return Pushed(remote, tuple(refs), tuple(changed))


def _addresses(record: Record, remote: str) -> list[str]:
    """Return where the repository says a remote is, or the address itself.

    Raises:
        UsageError: there is no such remote, or it came with the run directory.
    """
    found: dict[str, list[str]] = {}
    what = r"^remote\..*\.(push)?url$"
    listed = record.repository.run("config", "--local", "-z", "--get-regexp", what, ok=(0, 1))
    for item in filter(None, listed.decode("utf-8", "replace").split("\0")):
        key, _, address = item.partition("\n")
        found.setdefault(key.removeprefix("remote."), []).append(address)
    if addresses := found.get(f"{remote}.pushurl") or found.get(f"{remote}.url"):
        root = record.run_directory.root.resolve()
        for address in addresses:
            path = Path(address.removeprefix("file://"))
            is_local = ":" not in str(path).partition("/")[0]
            if is_local and (not path.is_absolute() or path.resolve().is_relative_to(root)):
                raise UsageError(
                    f"the remote `{remote}` is at `{address}`, a path inside or relative to the run directory: it may"
                    " have come with it, and its hooks would run",
                    hint=f"if it is yours: `git remote set-url {remote} <absolute path outside the run directory>`",
                )
        return addresses
    if not any(mark in remote for mark in "/:\\"):  # no address either
        names = sorted(key.removesuffix(".url") for key in found if key.endswith(".url"))
        raise UsageError(
            f"there is no remote `{remote}`",
            hint="remotes: " + ", ".join(f"`{n}`" for n in names)
            if names
            else f"add one: `git remote add {remote} <address>`",
        )
    return [remote]


def _refused(record: Record, remote: str, stderr: str, stdout: str) -> WorkError:
    text = f"{stdout}\n{stderr}"
    if "[rejected]" in text or "non-fast-forward" in text or "fetch first" in text:
        return WorkError(
            f"`{remote}` holds other experiments of session `{record.tag}`; nothing was sent",
            hint="was it run on another machine? Look at it in a clone, and continue here under a"
            f" new name: `autoresearch run --tag {record.tag}-2 --from best`",
            kind="git",
        )
    lines = [
        line.strip(" '\"").removeprefix("fatal: ")
        for line in stderr.replace("stderr:", "").splitlines()
        if line.strip(" '\"")
    ]
    reason = next((line for line in lines if not line.startswith("hint")), "git push failed")
    return WorkError(
        f"cannot send to `{remote}`: {reason}",
        hint=f"try it by hand: `git push {remote} {record.branch}`",
        kind="git",
    )
