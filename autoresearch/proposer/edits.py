"""Proposed edits: their identity, and the checks before any GPU time is spent.

`check_files` refuses a change outside the editable files, one that changes nothing that runs, one that changes
only the seed, one that is not Python, one that is too long, and one that was tried before.
"""

import ast
import contextlib
import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping

from autoresearch.proposer.answers import MAX_DESCRIPTION, is_thinking_mark, split_lines
from autoresearch.proposer.base import Context, Refusal, refuse
from autoresearch.proposer.search import constants
from autoresearch.types import Proposal, ProposerKind, Reason, Usage
from autoresearch.util.text import one_line, redact

_SEED = re.compile(r"(?:^|_)seed(?:_|$)", re.IGNORECASE)
_SEEDERS = {"manual_seed", "manual_seed_all", "seed", "seed_all", "default_rng", "RandomState"}


_COMMENT = re.compile(
    r"^(?:#|//|/\*|<!--|(?:pass|return|raise NotImplementedError\S*)\s*#)\s*(.*?)[\s*/>)\]-]*$"
    r"|^[^\"'#]*#\s*((?:\.{3}|\u2026).*)$|^(?:'{3}|\"{3})(.*)(?:'{3}|\"{3})$"
)
_THINGS = (
    r"(code|file|script|function|class|method|module|program|constant|import|setting|definition|loop|line|part|helper"
    r"|implementation|model|\w+\.py)s?"
)
_ELIDED = re.compile(
    r"^[\[(<]?(\.{3}|\u2026|\u22ee)"
    r"|\b(rest|remainder|remaining|others?|existing|previous|original|everything else|same)\b.{0,60}"
    r"\b(unchanged|omitted|elided|as (it )?(is|was|before|above)|the same|identical|stays?|remains?|here|continues?)\b"
    rf"|^\W*(and )?(the )?(rest|remainder) of (the )?(\w+ ){{0,2}}{_THINGS}\W*$"
    rf"|\bkeep (all )?(the )?(rest|others?|remaining|existing)( {_THINGS})?\W*$|^\W*existing {_THINGS}\W*$"
    r"|^\W*(continues? |identical |same )?(as|to) (in )?(the )?(original|before|above|previous)( \w+)?\W*$"
    r"|\bexisting code\b|\b(unchanged|omitted|elided|truncated|snip(ped)?)( for \w+)?\W*$|^\W*(your code here|etc)\W*$"
    r"|\u5176\u4f59.{0,12}\u4e0d\u53d8|\u7701\u7565",
    re.IGNORECASE,
)
"""Words of a comment that stands for code."""
_OWED = ("build_model", "Trial.join(", ".submit(", "evaluate_bpb(")
"""What a program calls or offers by the contract: one that has it must not lose it."""


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
        identity({**context.files, **p.files}): one_line(p.description, 100)
        for p in context.in_flight
    }
    refusal = check_files(
        context.files,
        files,
        max_lines=context.max_lines,
        max_bytes=context.max_bytes,
        tried=context.tried,
        in_flight=in_flight,
    )
    if refusal is not None or not context.in_flight:
        return refusal
    # One made before the last keep will hold the same files only once it is rebased.
    mine = changed_constants(context.files, files)
    for p in context.in_flight:
        if mine and dict(p.parameters) == mine:
            which = f"the proposal under trial now ({one_line(p.description, 100)}) leads to"
            return refuse(Reason.DUPLICATE, which=which)
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
    max_bytes: int,
    tried: Mapping[str, int],
    in_flight: Mapping[str, str] | None = None,
) -> Refusal | None:
    """Return why a change may not be tried, or None.

    Args:
        before: Editable path -> text at the incumbent; its keys are the editable files.
        after: Editable path -> text after the change.
        max_lines: Longest editable file in lines; 0 is no limit.
        max_bytes: Longest editable file in bytes.
        tried: Identity -> number of the experiment that tried it.
        in_flight: Identity -> description of what is under trial or waiting.
    """
    if outside := sorted(set(after) - set(before)):
        return refuse(Reason.OUT_OF_SCOPE, names=listed(outside), allowed=listed(before))
    full = {**before, **after}
    paths = [path for path in sorted(before) if full[path] != before[path]]
    for path in paths:
        refusal = _elided(path, before[path], full[path])
        refusal = refusal or _check_one(path, before[path], full[path], max_lines, max_bytes)
        if refusal is not None:
            return refusal
    for is_seedless, reason in ((False, Reason.NO_OP), (True, Reason.SEED_ONLY)):
        if all(
            path.endswith(".py")
            and _skeleton(full[path], is_seedless) == _skeleton(before[path], is_seedless)
            for path in paths
        ):
            return refuse(reason)
    old, new = ("\n".join(files[path] for path in before) for files in (before, full))
    if lost := [word for word in _OWED if word in old and word not in new]:
        problem = f"the program has no {listed(lost)} any more: it cannot be trained or judged"
        return refuse(Reason.EDIT_FAILED, problem=problem)
    mine = identity(full)
    if mine in tried:
        return refuse(Reason.DUPLICATE, which=f"experiment #{tried[mine]} tried")
    if in_flight and mine in in_flight:
        which = f"the proposal under trial now ({in_flight[mine]}) leads to"
        return refuse(Reason.DUPLICATE, which=which)
    return None


def listed(paths: Iterable[str]) -> str:
    """Return names in backticks, with commas."""
    return ", ".join(f"`{path}`" for path in paths)


def _check_one(
    path: str, before: str, after: str, max_lines: int, max_bytes: int
) -> Refusal | None:
    lines, size = len(after.splitlines()), len(after.encode("utf-8", "replace"))
    if max_lines and lines > max_lines and lines > len(before.splitlines()):
        return refuse(Reason.TOO_LONG, path=path, size=f"{lines} lines", most=max_lines)
    if size > max_bytes and size > len(before.encode("utf-8", "replace")):
        return refuse(Reason.TOO_LONG, path=path, size=f"{size:,} bytes", most=f"{max_bytes:,}")
    if "\0" in after:
        return refuse(Reason.SYNTAX, path=path, problem=": it holds a null character")
    if redact(before) == before and redact(after) != after:
        problem = f"`{path}` would hold a key or password of this machine"
        return refuse(Reason.EDIT_FAILED, problem=problem)
    if path.endswith(".py"):
        try:
            compile(after, path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
            where = f" at line {exc.lineno}" if isinstance(exc, SyntaxError) and exc.lineno else ""
            said = exc.msg if isinstance(exc, SyntaxError) else str(exc)
            return refuse(Reason.SYNTAX, path=path, problem=f"{where}: {said}")
    return None


def _elided(path: str, before: str, after: str) -> Refusal | None:
    """Return a refusal of new lines that are no code: a word for what was left out, a mark of thinking."""
    known = {line.strip() for line in split_lines(before)}
    last = ""
    for line in map(str.strip, split_lines(after)):
        match = _COMMENT.match(line)
        words = next(filter(None, match.groups()), "") if match else ""
        is_bare = line in ("...", "\u2026", "[...]") and not last.endswith(":")
        is_bare = is_bare or is_thinking_mark(line)
        if line not in known and (is_bare or _ELIDED.search(words)):
            problem = (
                f"`{path}` would hold `{one_line(line, 80)}` in place of code: write out every line"
            )
            return refuse(Reason.EDIT_FAILED, problem=problem)
        last = line or last
    return None


_LONG_LITERAL = 1000


def long_literals(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the long literals that a change brings, `train.py line 12: 40,000 bytes`: weights or text fit in one.

    Args:
        before: Path -> text.
        after: Path -> text, of the changed files.
    """
    found = []
    for path, text in after.items():
        known = {key for _, _, key in _literals(before.get(path, ""))}
        sizes: dict[int, int] = {}
        for line, size, key in _literals(text):
            if key not in known:
                sizes[line] = max(size, sizes.get(line, 0))
        found += [f"{path} line {line}: {size:,} bytes" for line, size in sorted(sizes.items())]
    return found


def _literals(text: str) -> list[tuple[int, int, str]]:
    """Return line, bytes and content of long texts, numbers and collections; a number in a collection is 8 bytes."""
    found = []
    with contextlib.suppress(SyntaxError, ValueError, RecursionError):
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.expr):
                continue
            size = 0
            if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
                size = 8 * sum(isinstance(inner, ast.Constant) for inner in ast.walk(node))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                size = len(node.value)
            elif isinstance(node, ast.Constant) and isinstance(node.value, int):
                size = node.value.bit_length() // 8
            if size >= _LONG_LITERAL:
                found.append((node.lineno, size, ast.get_source_segment(text, node) or ""))
    return found


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
        if isinstance(node, ast.Constant) and type(node.value) is int:
            node.value = hex(node.value)  # Python writes no long ones as decimals
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
    description = one_line(headings.get("description", ""), MAX_DESCRIPTION)
    return Proposal(
        description=description or describe(context.files, files),
        files=files,
        parent=context.parent,
        proposer=proposer,
        hypothesis=headings.get("hypothesis", ""),
        expected_effect=headings.get("expected effect", ""),
        theme=one_line(headings.get("theme", ""), 40).lower(),
        note=one_line(headings.get("note", ""), 400),
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
    return one_line("; ".join(parts), MAX_DESCRIPTION) or "no change"


def imported(text: str | bytes) -> set[str]:
    """Return what a program imports, by the first part of each name; empty if it is not Python."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError):
        return set()
    names = {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
    names |= {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    return {name.split(".")[0] for name in names}
