"""`autoresearch revert`: undo one kept experiment, or return to a state, by a new commit."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from autoresearch.commands import (
    DryRunOption,
    TagOption,
    YesOption,
    experiment_argument,
    option,
    state,
)

if TYPE_CHECKING:
    from autoresearch.record.revert import RevertPlan


def revert(
    ctx: typer.Context,
    name: Annotated[str | None, experiment_argument()] = None,
    to: Annotated[
        str | None,
        option("--to EXPERIMENT", "Restore the files of an experiment or commit instead."),
    ] = None,
    is_dry: DryRunOption = False,
    is_sure: YesOption = False,
    tag: TagOption = None,
) -> None:
    """Revert a kept experiment with a new commit; history is not rewritten.

    Later experiments stay. If one of them changed the same lines, nothing is done and its number is printed. The next
    `run` measures the new tip first.
    """
    from autoresearch.commands._common import open_record
    from autoresearch.errors import UsageError
    from autoresearch.record.revert import apply, plan

    mode = state(ctx).mode
    if (name is None) == (to is None):
        raise UsageError(
            "name one experiment to undo, or a state with `--to`",
            hint="`autoresearch revert 12` or `autoresearch revert --to 12`",
        )
    with open_record(tag) as record:
        made = plan(record, name, to=to)
        commit = ""
        if not is_dry:
            if not is_sure and not mode.is_json:
                _ask(made, record.branch)
            elif not is_sure:
                raise _needs_yes()
            commit = apply(record, made)
        if mode.is_json:
            mode.json(
                {
                    "commit": commit or None,
                    "branch": record.branch,
                    "undone": list(made.numbers),
                    "restored": list(made.restored),
                    "to": made.to or None,
                    "is_dry_run": is_dry,
                    "diff": made.diff,
                }
            )
            return
        if is_dry:
            mode.out.file.write(made.diff)
            mode.say(f"would make one commit on {record.branch}: {made.subject}")
            return
        mode.say(f"{commit[:7]} {made.subject}")
        if record.worktree.given() != commit:
            mode.warn("the working tree was left as it is: it is not on the branch or holds edits")
        mode.say("the next `autoresearch run` measures it first")


def _ask(made: "RevertPlan", branch: str) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise _needs_yes()
    undone = ", ".join(f"#{n}" for n in made.numbers) or "no kept experiment"
    restored = ", ".join(f"#{n}" for n in made.restored)
    given = f", restores {restored}" if restored else ""
    num_lines = sum(
        line[:1] in "+-" and line[:3] not in ("+++", "---") for line in made.diff.split("\n")
    )
    typer.confirm(
        f"{made.subject}\nUndoes {undone}{given}; {num_lines} lines change on {branch}. Continue?",
        abort=True,
        err=True,
    )


def _needs_yes() -> Exception:
    from autoresearch.errors import UsageError

    return UsageError(
        "`revert` asks before it changes the branch, and there is no terminal to ask on",
        hint="add `--yes`, or look first with `--dry-run`",
    )
