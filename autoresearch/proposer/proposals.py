"""Makes a proposal of what an agent changed and what it said about it."""

import difflib
from collections.abc import Mapping

from autoresearch.proposer import edits
from autoresearch.proposer.answers import MAX_DESCRIPTION, clean
from autoresearch.proposer.base import Context
from autoresearch.proposer.search import constants
from autoresearch.types import Proposal, ProposerKind, Usage


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
        parameters=edits.changed_constants(context.files, files),
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
