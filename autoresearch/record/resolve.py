"""What a person means by `12`, `#12`, `baseline`, `best`, `last` or a sha prefix."""

from collections.abc import Callable

from autoresearch.errors import UsageError
from autoresearch.types import Experiment, Session

_SHA = frozenset("0123456789abcdef")


def resolve(
    session: Session, name: str, candidate: Callable[[int], str] = lambda _: ""
) -> Experiment:
    """Return the experiment `name` means.

    Args:
        session: Whose experiments.
        name: As a person types it.
        candidate: Number -> sha of the candidate commit, for experiments whose kept commit is another.

    Raises:
        UsageError: none, or more than one.
    """
    word = name.strip().lower()
    if not session.experiments:
        raise UsageError(
            f"session `{session.tag}` has no experiments yet",
            hint="start it with `autoresearch run`",
        )
    by_number = {e.number: e for e in session.experiments}
    if word == "baseline" and 0 in by_number:
        return by_number[0]
    if word == "best" and session.best in by_number:
        return by_number[session.best]
    if word == "last":
        return session.experiments[-1]
    digits = word.removeprefix("#")
    if digits.isascii() and digits.isdigit() and int(digits) in by_number:
        return by_number[int(digits)]
    if len(word) >= 4 and set(word) <= _SHA:
        found = [
            e
            for e in session.experiments
            if e.commit.startswith(word) or candidate(e.number).startswith(word)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            numbers = ", ".join(f"#{e.number}" for e in found[:5])
            raise UsageError(
                f"`{name}` means more than one experiment: {numbers}",
                hint="use the number, or more digits of the sha",
            )
    last = session.experiments[-1].number
    raise UsageError(
        f"there is no experiment `{name}` in session `{session.tag}`",
        hint=f"use 0 to {last}, `baseline`, `best`, `last` or a sha prefix of 4 or more digits",
    )
