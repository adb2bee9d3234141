"""What a proposer reads of a program's contract: rules of the lab, and the public part of the evaluator's docstring."""

import ast

from autoresearch.config import FROM_STDOUT, Config
from autoresearch.paths import RunDirectory
from autoresearch.util.files import read_file
from autoresearch.util.text import printable

HIDDEN_LINE = "Hidden:"
"""From this line of the evaluator's docstring on nothing is shown."""
_MAX_CHARACTERS = 4000

RULES = """\
You are the researcher of an automated lab that improves a program. Each answer is one experiment: a change to
{{files}}. The lab scores the changed program by an evaluator that you cannot see, and keeps the change if it is
probably a real gain: the next change then starts from it. Else the change is dropped. You are asked each time in a
fresh conversation: all you know is here.

What counts
- {metric}, nothing else.{guards}
- {luck} What cannot be told from luck is dropped, unless it makes the program shorter.
- A crash, a call that is late or an answer of the wrong kind wastes the turn.

What the program owes the lab
{owed}
- No network, no files but its own folder, no new packages: the standard library and what the program imports now.
{about}
What is refused before it is tried
- A change to anything but {{files}}, more than {{longest}} in a file, what is not valid Python.
- What was tried before, what changes only comments or formatting, what changes only a seed: seeds are the lab's.

How to choose
- One idea at a time, so that its effect can be told. Combine only what is known to help.
- Read the table of experiments: do not repeat an idea in other words, drop what failed clearly, build on near misses.
- Prefer a specific idea with a reason, taken from how this problem behaves, to nudging a constant."""

_CALLED = """\
- The evaluator calls functions of `{file}` by name, in a process that stays alive between calls unless it starts it
  afresh; arguments and answers are plain data: numbers, text, lists, dicts, numpy arrays, all finite. Keep the names,
  the arguments and the kinds of answers.
- All calls of a trial together take at most {{budget:g}} seconds. Between calls the process is frozen: threads and
  processes of yours do nothing then.
- You see scores, never cases. Each trial has fresh cases, so what fits one set of cases is worth nothing."""
_PRINTED = """\
- The lab runs `{command}` for at most {{budget:g}} seconds and takes the last number that `{pattern}` finds in what it
  prints. Keep that line, and compute the number honestly: nothing else checks it."""


def rules(run_directory: RunDirectory, config: Config) -> str:
    """Return the rules, with `files`, `longest` and `budget` in braces to fill in."""
    task = config.task
    title = f"{task.metric}{f', {task.unit}' if task.unit else ''}"
    better = "lower" if task.direction == "minimize" else "higher"
    if task.metric == FROM_STDOUT:
        owed = _PRINTED.format(command=_bare(" ".join(task.command)), pattern=_bare(task.pattern))
        title, luck, about = "the number it prints", "Runs differ by luck.", ""
    else:
        owed = _CALLED.format(file=task.editable[0])
        luck = (
            "Cases differ by luck."
            if not task.paired
            else "The change and what it changes meet the same cases."
        )
        public = public_part(read_file(run_directory.root / task.evaluator) or b"")
        about = f"\nWhat its author says of the evaluator\n{_bare(public)}\n" if public else ""
    guards = "".join(
        f" `{name}` must stay within {', '.join(f'{k} {v:g}' for k, v in guard.model_dump(exclude_none=True).items())}."
        for name, guard in task.guards.items()
    )
    return RULES.format(
        metric=f"{_bare(title)}: {better} is better",
        guards=_bare(guards),
        luck=luck,
        owed=owed,
        about=about,
    )


def public_part(source: bytes) -> str:
    """Return the docstring of an evaluator up to a line `Hidden:`; empty where there is none."""
    try:
        text = ast.get_docstring(ast.parse(source)) or ""
    except (SyntaxError, ValueError):
        return ""
    shown = text.split(f"\n{HIDDEN_LINE}", 1)[0] if not text.startswith(HIDDEN_LINE) else ""
    return "\n".join(printable(line) for line in shown.strip()[:_MAX_CHARACTERS].splitlines())


def _bare(text: str) -> str:
    """Return a text that survives being filled in: its braces are doubled."""
    return text.replace("{", "{{").replace("}", "}}")
