"""Versions of the program that no experiment ever was: a kept change left out, constants set by a person."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from autoresearch.errors import UsageError

if TYPE_CHECKING:
    from autoresearch.record.record import Record
    from autoresearch.types import Experiment

Number = int | float


def leave_out(
    record: "Record", best: "Experiment", experiment: "Experiment"
) -> Mapping[str, bytes] | None:
    """Return the best's files without the change one kept experiment made, None if that collides."""
    files = dict(record.files(best.commit))
    made = record.files(experiment.commit)
    parents = record.repository.parents(experiment.commit)
    was = record.files(parents[0]) if parents else {}
    for path in record.editable():
        before, after = was.get(path), made.get(path)
        if before == after:
            continue
        if before is None or after is None or path not in files:
            return None
        merged = record.repository.merge3(after, files[path], before)
        if merged is None:
            return None
        files[path] = merged
    return files


def with_constants(
    files: Mapping[str, bytes],
    editable: Sequence[str],
    changes: Mapping[str, Number],
    number: int,
) -> dict[str, bytes]:
    """Return the editable files in which constants were set.

    Raises:
        UsageError: no editable file has a constant of that name.
    """
    from autoresearch.proposer.search.constants import parse, replace

    left = dict(changes)
    changed = {}
    known: set[str] = set()
    for path in editable:
        if not path.endswith(".py") or path not in files:
            continue
        program = parse(files[path].decode())
        names = {c.name for c in program.constants}
        known |= names
        mine = {name: left.pop(name) for name in list(left) if name in names}
        if mine:
            changed[path] = replace(program, mine).encode()
    if left:
        import difflib

        name = next(iter(left))
        near = difflib.get_close_matches(name, sorted(known), n=1)
        raise UsageError(
            f"experiment {number} has no constant `{name}`",
            hint=f"did you mean `{near[0]}`?"
            if near
            else "known ones: " + ", ".join(sorted(known)),
        )
    return changed


def parse_changes(texts: Sequence[str]) -> dict[str, Number]:
    """Read `NAME=VALUE` words.

    Raises:
        UsageError: a word is not of that form.
    """
    changes: dict[str, Number] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            number = json.loads(value)
        except ValueError:
            number = None
        if not name or isinstance(number, bool) or not isinstance(number, int | float):
            raise UsageError(
                f"`--set` takes NAME=NUMBER, got `{text}`", hint="for example `--set DEPTH=12`"
            )
        changes[name.strip()] = number
    return changes
