"""Folders that come from karpathy's autoresearch or a fork of it: seen, moved in, and what does not fit in them."""

import itertools
import os
import sys
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from pathlib import Path

from autoresearch.errors import PrerequisiteError, WorkError
from autoresearch.paths import PROGRAM_NAME, RunDirectory
from autoresearch.proposer.edits import imported
from autoresearch.util.files import is_ours, read_file, write_file

CODE, PREPARE = "train.py", "prepare.py"
_OURS = b"autoresearch.trial.child"
"""In the prepare.py of the template `compat`, whatever the user added to it."""


class Shape(Enum):
    """What the train.py of a folder asks of its prepare.py."""

    OTHER = auto()
    """Nothing: it talks to the lab by `Trial`, or there is none."""
    FLAT = auto()
    """It imports from `prepare`, and that is the lab's."""
    STRANGE = auto()
    """It imports from `prepare`, and that is missing or not the lab's."""


def shape_of(folder: Path) -> Shape:
    """Return what the train.py in `folder` asks of its prepare.py."""
    return shape(read_file(folder / CODE), read_file(folder / PREPARE))


def shape(code: bytes | None, prepare: bytes | None) -> Shape:
    """Return what a train.py asks of its prepare.py; either may be missing."""
    names = imported(code or b"")
    if "prepare" not in names or "autoresearch" in names:
        return Shape.OTHER
    return Shape.FLAT if _OURS in (prepare or b"") else Shape.STRANGE


def check(
    code: bytes | None, files: Mapping[str, bytes | None], folder: Path, name: str = CODE
) -> None:
    """See that a trial of a program is given what it imports from its own folder.

    Args:
        code: Its text.
        files: Path -> content of what a trial is given.
        folder: The run directory, which may hold more.
        name: Of its file.

    Raises:
        PrerequisiteError: git does not know a module of the folder, or the prepare.py of a script of upstream's shape
            is not the lab's.
    """
    unknown = [
        f"{name}.py"
        for name in sorted(imported(code or b"") - sys.stdlib_module_names)
        if (folder / f"{name}.py").is_file() and f"{name}.py" not in files
    ]
    if unknown and unknown != [PREPARE]:
        names = " ".join(name for name in unknown if name != PREPARE)
        raise PrerequisiteError(
            f"`{name}` imports from {names}, which no commit of the branch holds, so a trial is not given it",
            hint=f"`git add {names} && git commit -m 'add {names}'`; to let experiments change it,"
            " name it in `[task] editable`",
            kind="record",
        )
    prepare = files.get(PREPARE)
    if shape(code, prepare) is Shape.STRANGE:
        what = "that file is missing" if prepare is None else "that file is not the lab's"
        raise PrerequisiteError(
            f"`{CODE}` imports from `{PREPARE}`, as scripts of karpathy's autoresearch do, but {what}",
            hint="`autoresearch init .` adds the lab's two files and keeps yours under another name",
            kind="record",
        )


def make_room(folder: Path) -> str:
    """Copy a prepare.py that is not the lab's to another name and return that name; "" where there is none."""
    theirs = read_file(folder / PREPARE)
    if theirs is None or _OURS in theirs:
        return ""
    for number in itertools.count(1):
        name = f"prepare.upstream{f'-{number}' if number > 1 else ''}.py"
        if not os.path.lexists(folder / name):
            write_file(folder / name, theirs)
        if read_file(folder / name) == theirs:
            return name
    raise AssertionError("unreachable")


def notes(folder: Path, branch: str | None, tag: str, moved: str) -> Iterator[str]:
    """Say what the user of a folder of upstream's shape should know, one sentence each.

    Args:
        folder: The run directory, as `init` left it.
        branch: Tag of the user's branch the session begins from; None: no such branch.
        tag: Of the session.
        moved: The name that the user's prepare.py has now, "" if there was none.
    """
    from autoresearch.proposer.prompt import misfits
    from autoresearch.record.results_tsv import read_tsv

    theirs = f"; yours is kept as `{moved}`" if moved else ""
    yield f"`{CODE}` is a script of upstream's shape: the lab's `{PREPARE}` feeds it{theirs}"
    if branch is not None:
        yield f"your branch autoresearch/{branch} stays as it is; the session begins at its tip, on autoresearch/{tag}"
    results = RunDirectory(folder).results
    if results.is_file() and not is_ours(results):
        try:
            read_tsv(results)
        except WorkError as exc:
            yield f"{results.name} stays as it is; proposers do not see it: {exc}"
        else:
            yield f"{results.name} stays as it is; proposers see its rows, and `autoresearch log` counts them"
    yield "`max_lines = 0`: a file may be of any length"
    program = (read_file(folder / PROGRAM_NAME) or b"").decode("utf-8", "replace")
    if lines := misfits(program):
        shown = "; ".join(f"line {number}: {line}" for number, line in lines[:4])
        more = f"; and {len(lines) - 4} more" if len(lines) > 4 else ""
        yield (
            f"these lines of {PROGRAM_NAME} do not fit the lab, which does that itself: {shown}{more}. Drop them;"
            " until then the prompt tells the agent to ignore them"
        )
