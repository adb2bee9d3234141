"""The names of a session in git: its tag, its branch and its refs."""

import re

from autoresearch.errors import UsageError

REFS = "refs/autoresearch/"
BRANCHES = "refs/heads/autoresearch/"
FETCH = "git fetch --no-prune origin 'refs/autoresearch/*:refs/autoresearch/*'"
"""What makes the record visible in a clone; with `fetch.prune` it would delete the sessions that were not pushed."""

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_tag(tag: str) -> str:
    """Return `tag` if it can name a session.

    Raises:
        UsageError: it cannot; says why.
    """
    if "/" in tag:
        raise UsageError(
            f"tag `{tag}` contains `/`: git cannot hold both branch `autoresearch/{tag}` and"
            f" `autoresearch/{tag.split('/', 1)[0]}`",
            hint=f"write `{tag.replace('/', '-').strip('-')}`",
        )
    if not _TAG.fullmatch(tag) or ".." in tag or tag.endswith((".", ".lock")):
        raise UsageError(
            f"tag `{tag}` cannot be part of a branch name",
            hint="use letters, digits, `-`, `_` and `.`, such as `nov21`",
        )
    return tag


def branch_name(tag: str) -> str:
    """Return the name of a session's branch, as people write it."""
    return f"autoresearch/{tag}"


def branch_ref(tag: str) -> str:
    """Return the full ref of a session's branch."""
    return f"{BRANCHES}{tag}"


def journal_ref(tag: str) -> str:
    """Return the full ref of a session's journal."""
    return f"{REFS}{tag}/journal"


def spare_ref(tag: str) -> str:
    """Return the second ref on the journal, out of reach of a `fetch` that prunes."""
    return f"refs/autoresearch-spare/{tag}"


def worktree_ref(tag: str) -> str:
    """Return the ref that says which commit the working tree was given."""
    return f"{REFS}{tag}/worktree"


def hand_ref(tag: str) -> str:
    """Return the ref that keeps the last hand edit that was taken up."""
    return f"{REFS}{tag}/hand"
