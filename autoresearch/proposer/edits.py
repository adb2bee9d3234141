"""Proposed edits: their identity, and the checks before any GPU time is spent.

`check_files` refuses a change outside the editable files, one that changes nothing that runs, one that changes
only the seed, one that is not Python, one that is too long, and one that was tried before.
"""

import ast
import difflib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from autoresearch.proposer.answers import MAX_DESCRIPTION, clean
from autoresearch.proposer.base import Context
from autoresearch.proposer.search import constants
from autoresearch.types import Proposal, ProposerKind, Usage

Reason = Literal[
    "edit_failed", "out_of_scope_edit", "no_op", "seed_only", "syntax", "too_long", "duplicate"
]

_SEED = re.compile(r"(?:^|_)seed(?:_|$)", re.IGNORECASE)
_SEEDERS = {"manual_seed", "manual_seed_all", "seed", "seed_all", "default_rng", "RandomState"}


@dataclass(frozen=True)
class Refusal:
    """Why a change will not be tried; `message` is one sentence, fit for an agent to act on."""

    reason: Reason
    message: str


def identity(files: Mapping[str, str]) -> str:
    """Return the identity of an idea: a hash over the sorted paths and texts of the editable files.

    The record computes the same from the files of a commit, where line ends are LF.

    Args:
        files: Editable path -> full text.

    Returns:
        16 hex digits; equal for equal files, whatever the rest of the tree holds.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        content = files[path].encode("utf-8", "surrogateescape").replace(b"\r\n", b"\n")
        digest.update(f"{path}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def check_change(context: Context, files: Mapping[str, str]) -> Refusal | None:
    """Return why a change may not be tried in this session, or None.

    Args:
        context: What is known; its files are the incumbent's.
        files: Path -> text after the change.
    """
    in_flight = {
        identity({**context.files, **p.files}): clean(p.description, 100) for p in context.in_flight
    }
    refusal = check_files(
        context.files,
        files,
        max_lines=context.max_lines,
        tried=context.tried,
        in_flight=in_flight,
    )
    if refusal is not None or not context.in_flight:
        return refusal
    # One made before the last keep will hold the same files only once it is rebased.
    mine = changed_constants(context.files, files)
    for p in context.in_flight:
        if mine and dict(p.parameters) == mine:
            return Refusal(
                "duplicate", f"the same change is under trial now: {clean(p.description, 100)}"
            )
    return None


def changed_constants(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, float]:
    """Return the constants a change sets, by name; empty if it changes anything else too."""
    paths = [path for path in before if after.get(path, before[path]) != before[path]]
    if len(paths) != 1 or paths[0] != next(iter(before)):
        return {}
    changes = constants.changed(before[paths[0]], after[paths[0]])
    return {name: float(value) for name, value in (changes or {}).items()}


def check_files(
    before: Mapping[str, str],
    after: Mapping[str, str],
    *,
    max_lines: int,
    tried: Mapping[str, int],
    in_flight: Mapping[str, str] | None = None,
) -> Refusal | None:
    """Return why a change may not be tried, or None.

    Args:
        before: Editable path -> text at the incumbent; its keys are the editable files.
        after: Editable path -> text after the change.
        max_lines: Longest editable file in lines; 0 is no limit.
        tried: Identity -> number of the experiment that tried it.
        in_flight: Identity -> description of what is under trial or waiting.
    """
    outside = sorted(set(after) - set(before))
    if outside:
        allowed = ", ".join(f"`{path}`" for path in sorted(before))
        names = ", ".join(f"`{path}`" for path in outside)
        return Refusal("out_of_scope_edit", f"{names} may not be changed, only {allowed}")
    full = {**before, **after}
    if all(full[path] == before[path] for path in before):
        return Refusal("no_op", "the change leaves every file as it is")
    for path in sorted(before):
        refusal = _check_one(path, before[path], full[path], max_lines)
        if refusal is not None:
            return refusal
    paths = [path for path in before if full[path] != before[path]]
    if all(
        path.endswith(".py") and _skeleton(full[path], False) == _skeleton(before[path], False)
        for path in paths
    ):
        return Refusal(
            "no_op", "the change touches only comments or formatting: nothing that runs differs"
        )
    if all(
        path.endswith(".py") and _skeleton(full[path], True) == _skeleton(before[path], True)
        for path in paths
    ):
        return Refusal(
            "seed_only",
            "the change touches only random seeds: the lab sets those, luck is not a gain",
        )
    mine = identity(full)
    if mine in tried:
        return Refusal("duplicate", f"experiment #{tried[mine]} tried exactly these files")
    if in_flight and mine in in_flight:
        return Refusal("duplicate", f"exactly these files are under trial now: {in_flight[mine]}")
    return None


def _check_one(path: str, before: str, after: str, max_lines: int) -> Refusal | None:
    if after == before:
        return None
    if "\0" in after:
        return Refusal("syntax", f"`{path}` holds a null character")
    num_lines = len(after.splitlines())
    if max_lines and num_lines > max_lines and num_lines > len(before.splitlines()):
        return Refusal(
            "too_long", f"`{path}` would have {num_lines} lines, at most {max_lines} are allowed"
        )
    if path.endswith(".py"):
        try:
            compile(after, path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
            where = f" at line {exc.lineno}" if isinstance(exc, SyntaxError) and exc.lineno else ""
            said = exc.msg if isinstance(exc, SyntaxError) else str(exc)
            return Refusal("syntax", f"`{path}` is not valid Python{where}: {said}")
    return None


def _skeleton(text: str, is_seedless: bool) -> str | None:
    """The program without comments, formatting, docstrings and, when asked, seeds."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            body[0] = ast.Pass()
        if is_seedless:
            _blank_seeds(node)
    return ast.dump(tree)


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _blank_seeds(node: ast.AST) -> None:
    blank = ast.Constant(0)
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) if _SEED.search(name):
            node.value = blank
        case ast.AnnAssign(target=ast.Name(id=name)) if _SEED.search(name):
            node.value = blank
        case ast.keyword(arg=str() as name) if _SEED.search(name):
            node.value = blank
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)) if name in _SEEDERS:
            node.args = [blank for _ in node.args]


def make_proposal(
    proposer: ProposerKind,
    context: Context,
    files: Mapping[str, str],
    headings: Mapping[str, str],
    usage: Usage,
    attachments: Mapping[str, bytes],
    model: str,
) -> Proposal:
    """Return a proposal with the texts an agent gave; a description is made up from the diff if it gave none.

    Args:
        proposer: `llm` or `command`.
        context: What the agent was told.
        files: Editable path -> text after the change.
        headings: What it said, by lower-case heading.
        usage: What it cost.
        attachments: Files to store with it.
        model: The model or the command that answered.
    """
    description = clean(headings.get("description", ""), MAX_DESCRIPTION)
    return Proposal(
        description=description or describe(context.files, files),
        files=files,
        parent=context.parent,
        proposer=proposer,
        hypothesis=headings.get("hypothesis", ""),
        expected_effect=headings.get("expected effect", ""),
        theme=clean(headings.get("theme", ""), 40).lower(),
        note=clean(headings.get("note", ""), 400),
        parameters=changed_constants(context.files, files),
        usage=usage,
        attachments=attachments,
        model=model,
    )


def describe(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return one line on what differs: the constants, or the first changed line of each file."""
    parts = []
    for path in before:
        if before[path] == after[path]:
            continue
        changes = constants.changed(before[path], after[path])
        if changes:
            old = constants.parse(before[path]).values()
            parts += [f"{name} {old[name]:g} -> {value:g}" for name, value in changes.items()]
            continue
        lines = [
            line
            for line in difflib.unified_diff(
                before[path].splitlines(), after[path].splitlines(), lineterm="", n=0
            )
            if line[:1] in "+-" and line[:3] not in ("+++", "---") and line[1:].strip()
        ]
        added = sum(line[0] == "+" for line in lines)
        first = next((line for line in lines if line[0] == "+"), lines[0] if lines else "")
        parts.append(f"{path} (+{added} -{len(lines) - added}): {first[1:].strip()}")
    return clean("; ".join(parts), MAX_DESCRIPTION) or "no change"


def imported(text: str | bytes) -> set[str]:
    """Return what a program imports, by the first part of each name; empty if it is not Python."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError):
        return set()
    names = {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
    names |= {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    return {name.split(".")[0] for name in names}
