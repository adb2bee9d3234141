"""The prompt of an agent: built from the record by pure code, in parts with token budgets.

Stable parts come first (rules, answer format, setup, program.md, train.py), so that a provider can reuse what it has
read before; what changes with every experiment comes last. train.py is never cut. The
history is everything while it fits; then all kept experiments, the newest and the nearest misses, and one line for
each theme. So the prompt stays within its budget however long the session is.

Text that a program printed is data: each of its lines starts with `| `, control characters are gone, its length is
bounded.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from autoresearch.proposer import history
from autoresearch.proposer.base import Context
from autoresearch.util.text import one_line

Count = Callable[[str], int]

_SHARES = {"outcomes": 0.25, "notes": 0.2, "past": 0.2}
"""Of what is left after the mandatory parts; the history takes the rest."""
_PROGRAM_SHARE = 0.3
PROGRAM_CUT = "(cut here: program.md is longer than its share of the prompt)"
_MISFIT = re.compile(
    r"\bgit (?:checkout|commit|reset|branch|push)\b|\buv (?:run|sync)\b|\bpython\d? (?:train|prepare)\.py"
    r"|LOOP FOREVER|NEVER STOP|results\.tsv|run\.log"
)


@dataclass(frozen=True)
class Part:
    """One section of a prompt."""

    name: str
    text: str
    num_tokens: int
    is_stable: bool = False
    """Whether it is likely to be the same next time."""


@dataclass(frozen=True)
class Prompt:
    """A prompt by parts, stable ones first."""

    parts: tuple[Part, ...]

    @property
    def num_tokens(self) -> int:
        """Sum over the parts."""
        return sum(part.num_tokens for part in self.parts)

    @property
    def system(self) -> str:
        """Rules, format and setup: what never changes within a session."""
        return "\n\n".join(p.text for p in self.parts[:3])

    @property
    def user(self) -> str:
        """Everything else."""
        return "\n\n".join(p.text for p in self.parts[3:])

    @property
    def text(self) -> str:
        """The whole prompt, as stored and as printed by a dry run."""
        return f"{self.system}\n\n{self.user}\n"

    def messages(self, *, is_marked: bool) -> list[dict[str, Any]]:
        """Return chat messages.

        Args:
            is_marked: Mark the ends of the stable stretches for providers that cache what is marked.
        """
        if not is_marked:
            return [
                {"role": "system", "content": self.system},
                {"role": "user", "content": self.user},
            ]
        stable = "\n\n".join(p.text for p in self.parts[3:] if p.is_stable)
        rest = "\n\n".join(p.text for p in self.parts[3:] if not p.is_stable)
        mark = {"type": "ephemeral"}
        return [
            {
                "role": "system",
                "content": [{"type": "text", "text": self.system, "cache_control": mark}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": stable, "cache_control": mark},
                    {"type": "text", "text": rest},
                ],
            },
        ]


@dataclass(frozen=True)
class Preview:
    """What a proposer would be asked next, for `run --dry-run`."""

    kind: str
    prompt: Prompt | None = None
    """None for a proposer that reads no prompt."""
    most_usd: float | None = None
    """The most the first call can cost; None where it is not known."""

    def lines(self) -> list[str]:
        """Return the exact prompt, then its tokens by part, as lines of text."""
        if self.prompt is None:
            return [f"`{self.kind}` proposes next; it reads the record and has no prompt"]
        width = max(len(part.name) for part in self.prompt.parts)
        table = [
            f"{part.name:<{width}}  {part.num_tokens:>7}  {'stable' if part.is_stable else ''}".rstrip()
            for part in self.prompt.parts
        ]
        total = f"{'total':<{width}}  {self.prompt.num_tokens:>7}"
        cost = [] if self.most_usd is None else [f"at most ${self.most_usd:.4f} for the first call"]
        return [*self.prompt.text.splitlines(), "", "tokens by part:", *table, total, *cost]

    def to_json(self) -> dict[str, object]:
        """Return the same as JSON values."""
        parts = [] if self.prompt is None else [vars(part) for part in self.prompt.parts]
        return {
            "proposer": self.kind,
            "num_tokens": self.prompt.num_tokens if self.prompt else None,
            "most_usd": self.most_usd,
            "parts": parts,
        }


@dataclass(frozen=True)
class Limits:
    """How much a prompt may hold."""

    num_tokens: int
    """For the whole prompt."""
    history_share: float = 1.0
    """1: all that fits; halved when a provider says that the prompt is too long."""
    has_logs: bool = True
    """False leaves out what programs printed."""
    is_agent: bool = False
    """For a coding agent that edits files itself, instead of answering with blocks."""


def estimate_tokens(text: str) -> int:
    """Return a count of tokens that is rather too high, without a tokenizer."""
    return math.ceil(len(text.encode("utf-8", "replace")) / 3)


def build_prompt(context: Context, limits: Limits, count: Count = estimate_tokens) -> Prompt:
    """Return the prompt for the next experiment; pure, and deterministic in its arguments.

    Args:
        context: The record and the state of the session.
        limits: The token budget; mandatory parts (rules, train.py) are kept even beyond it.
        count: Counts tokens of a text.
    """
    fixed = _fixed(context, limits, count)
    last = [
        ("in_flight", _in_flight(context), False),
        ("limits", _limits(context), False),
        ("stalled", history.STALLED if context.is_stalled else "", False),
        ("task", _task(context), False),
    ]
    spent = sum(count(text) for _, text, _ in (*fixed, *last) if text)
    left = max(0, limits.num_tokens - spent)
    left = int(left * limits.history_share)
    results = history.outcomes(context, int(left * _SHARES["outcomes"]), count, limits.has_logs)
    remembered = history.notes(context, int(left * _SHARES["notes"]), count)
    used = count(results) + count(remembered)
    before = history.past(context, int(left * _SHARES["past"]), count)
    table = history.table(context, left - used - count(before), count)
    middle = [
        ("past", before, True),
        ("history", table, False),
        ("notes", remembered, False),
        ("outcomes", results, False),
    ]
    return Prompt(
        tuple(
            Part(name, text, count(text), is_stable)
            for name, text, is_stable in (*fixed, *middle, *last)
            if text
        )
    )


# -- mandatory parts ---------------------------------------------------------------------------


def _fixed(context: Context, limits: Limits, count: Count) -> list[tuple[str, str, bool]]:
    """The parts that hardly change: rules, format, setup, program.md, the files."""
    names = ", ".join(f"`{path}`" for path in context.files)
    rules = (context.contract or history.RULES).format(
        files=names,
        budget=context.budget_seconds,
        longest=f"{context.max_lines} lines or " * bool(context.max_lines)
        + f"{context.max_bytes:,} bytes",
        contract=_contract(context.files),
    )
    metric = context.session.metric
    aim = f"{'lower' if metric.sign > 0 else 'raise'} {one_line(metric.name, 40)}"
    answer_format = (
        history.AGENT_FORMAT.format(files=names, aim=aim)
        if limits.is_agent
        else history.FORMAT.format(first=next(iter(context.files)), aim=aim)
    )
    return [
        ("rules", rules, True),
        ("format", answer_format, True),
        ("setup", _setup(context), True),
        (
            "program",
            _program(context.program, int(limits.num_tokens * _PROGRAM_SHARE), count),
            True,
        ),
        ("files", _files(context.files), True),
    ]


def _contract(files: Mapping[str, str]) -> str:
    """What the program owes the lab, by the shape it has."""
    is_script = not any("Trial.join" in text for text in files.values())
    return history.SCRIPT_CONTRACT if is_script else history.TRIAL_CONTRACT


def _setup(context: Context) -> str:
    """The device, the budget and the data: what is the same for a whole session."""
    hardware, data, setup = context.hardware, context.session.data, context.session.setup
    device = one_line(str(hardware.get("name") or (setup.gpu if setup else "unknown")), 100)
    if hardware.get("kind") == "cpu":
        device += f", {hardware.get('cores')} processor cores, no GPU"
    elif hardware.get("memory_mb"):
        device += f", {hardware['memory_mb']:,} MB of memory"
    if torch := hardware.get("torch") or (setup.torch if setup else ""):
        device += f", torch {one_line(str(torch), 40)}"
    lines = ["# The lab", f"- device: {device}"]
    startup = f", after at most {context.startup_seconds:g} s" if context.startup_seconds else ""
    lines.append(
        f"- budget of a trial: {context.budget_seconds:g} s{startup and startup + ' of start-up'}"
    )
    if setup is not None and setup.max_seq_len:
        lines.append(f"- max_seq_len: {setup.max_seq_len}")
    known = [name for name in ("source", "vocab_size") if data.get(name)]
    lines += [f"- data {name}: {one_line(str(data[name]), 120)}" for name in known]
    if context.session.trivial_score is not None:
        metric = context.session.metric
        what = metric.trivial or "a trivial answer"
        lines.append(f"- {metric.name} of {what}: {context.session.trivial_score:.4f}")
    return "\n".join(lines)


def _program(program: str, cap: int, count: Count) -> str:
    """program.md, cut at the end if it is very long."""
    text = program.strip()
    if not text:
        return "# program.md\n(empty)"
    whole, cap = len(text), max(cap, 200)
    text = text[
        : 32 * cap
    ]  # no text has so many characters per token, and to count them takes time
    while (size := count(text)) > cap:
        text = text[: int(len(text) * min(0.98, cap / size))]
    cut = f"\n{PROGRAM_CUT}" if len(text) < whole else ""
    but = ""
    if misfits(text):
        but = (
            "\n(Where it says otherwise than the rules above, about git, running the program, results.tsv, or never"
            " stopping, the rules above hold: the lab does all that.)"
        )
    return f"# program.md, written by the person who runs this lab{but}\n{text}{cut}"


def misfits(program: str) -> list[tuple[int, str]]:
    """Return the lines of a program.md, by number, that tell an agent to do what the lab does; upstream's has such."""
    lines = enumerate(program.splitlines(), 1)
    return [(number, one_line(line.strip(), 80)) for number, line in lines if _MISFIT.search(line)]


def _files(files: Mapping[str, str]) -> str:
    return "\n\n".join(
        f"# {path}, as it is now (experiment to be changed)\n```python\n{text}"
        + ("" if text.endswith("\n") else "\n")
        + "```"
        for path, text in files.items()
    )


def _in_flight(context: Context) -> str:
    if not context.in_flight:
        return ""
    lines = [f"- {one_line(p.description, 160)}" for p in context.in_flight]
    return "# Under trial now, outcome not known yet; propose something else\n" + "\n".join(lines)


def _limits(context: Context) -> str:
    lines = []
    if context.seconds_left is not None:
        lines.append(f"- time left: {context.seconds_left / 60:.0f} minutes")
        seconds = context.session.trial_seconds
        if seconds:
            lines.append(f"- about {context.seconds_left / seconds:.0f} more experiments fit")
    if context.cost_left_usd is not None:
        lines.append(f"- money left for proposals: ${context.cost_left_usd:.2f}")
    return "# Left\n" + "\n".join(lines) if lines else ""


def _task(context: Context) -> str:
    best = next((e for e in context.session.experiments if e.number == context.session.best), None)
    known = (
        [f"{context.session.metric.name} {best.score:.6f}"]
        if best and best.score is not None
        else []
    )
    if context.noise:
        known.append(f"trials of one program differ by about {context.noise:.6f} by luck")
    score = f" ({'; '.join(known)})" if known else ""
    which = "the baseline" if context.session.best == 0 else f"experiment #{context.session.best}"
    return (
        f"# Now\nPropose experiment #{context.number}: a change to the files above, which are those of {which}"
        f"{score}. Answer in the format given."
    )


def minimal(context: Context) -> Context:
    """Return a context stripped to the incumbent and the last five experiments."""
    keep = {0, context.session.best, *(e.number for e in context.session.experiments[-5:])}
    experiments = tuple(e for e in context.session.experiments if e.number in keep)
    session = replace(context.session, experiments=experiments, notes=context.session.notes[-3:])
    return replace(context, session=session, log_tails={}, curves={})
