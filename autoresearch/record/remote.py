"""Sending a session to a remote: its branch and its journal, together or not at all, never forced.

The user's configuration applies here, and only here: addresses, keys, proxies. Hooks do not run.
"""

from dataclasses import dataclass

from autoresearch.errors import UsageError, WorkError
from autoresearch.record.record import Record
from autoresearch.record.refs import branch_ref, journal_ref


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
        UsageError: there is no such remote.
        WorkError: the remote refused or cannot be reached.
    """
    import git

    refs = [
        r for r in (branch_ref(record.tag), journal_ref(record.tag)) if record.repository.ref(r)
    ]
    with git.Repo(record.run_directory.root) as repo:
        names = [r.name for r in repo.remotes]
        if remote not in names and not any(mark in remote for mark in "/:\\"):  # no address either
            raise UsageError(
                f"there is no remote `{remote}`",
                hint="remotes: " + ", ".join(f"`{n}`" for n in names)
                if names
                else f"add one: `git remote add {remote} <address>`",
            )
        prompt = "1" if is_interactive else "0"
        with repo.git.custom_environment(GIT_TERMINAL_PROMPT=prompt, LC_ALL="C"):
            try:
                out = repo.git(c="core.hooksPath=/dev/null").push(
                    "--atomic",
                    "--no-verify",
                    "--porcelain",
                    "--",
                    remote,
                    *(f"{r}:{r}" for r in refs),
                )
            except git.GitCommandError as exc:
                raise _refused(record, remote, str(exc.stderr), str(exc.stdout)) from exc
    changed = [line.split("\t")[1].split(":")[-1] for line in out.splitlines() if line[:1] in " *+"]
    return Pushed(remote, tuple(refs), tuple(changed))


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
