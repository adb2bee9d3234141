"""The `search` proposer: one step of one numeric constant of train.py at a time, the one expected to gain most.

It needs no network and keeps nothing: what it knows is the record. Each recorded experiment that changed constants
gives one observation for each of them, its val_bpb relative to the incumbent of its time, corrected for what kept
changes of the same constant did since; so observations stay comparable while the branch moves. Crashes and invalid
trials count as bad as the worst tenth of what was seen. `bowl.py` makes an expected gain of them for each step of each
constant. Deterministic in (session seed, experiment number, record).

Measured beside Optuna's TPE, which it replaced: `bench/search_proposer.py`, 20 landscapes, true gain after 10, 20
and 50 trials 0.012, 0.022 and 0.047 bpb against 0.009, 0.015 and 0.030; random steps 0.007, 0.017 and 0.027.

Trade-offs:
    Constants are treated as if their effects added up; strongly coupled ones are found slower. Two constants are
    changed at once only when no single step is left to try.
"""

import hashlib
import itertools
import math
import statistics
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from autoresearch.proposer import constants, edits, space
from autoresearch.proposer.arithmetic import Number
from autoresearch.proposer.base import CancelledError, Context, ProposerUnavailableError
from autoresearch.proposer.bowl import Bowls
from autoresearch.proposer.constants import Program
from autoresearch.proposer.space import Range
from autoresearch.types import Experiment, Proposal, Session, Verdict

_MAX_ATTEMPTS = 2000
_STEPS = (-2.0, -1.4, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 1.4, 2.0)
"""In notches of the range."""
_JITTER = 0.25
"""Spread of the logarithm of an expected gain: equals are tried in an order that differs by session."""
_THEME_POWER = 0.5
_DEFAULT_NOISE = 0.0005
_DEFAULT_SCALE = 0.003
_PENALTY_QUANTILE = 0.9
_DEFAULT_PENALTY = 0.05
_THEMES = (
    ("schedule", ("FINAL", "MIN_LR"), 1.0),
    ("learning rate", ("LR", "LEARNING_RATE"), 3.0),
    ("batch size", ("BATCH", "ACCUM", "ROWS", "CONTEXT", "SEQ_LEN"), 2.5),
    ("schedule", ("WARMUP", "WARMDOWN", "COOLDOWN", "DECAY_FROM", "SCHEDULE"), 2.0),
    (
        "architecture",
        ("DEPTH", "LAYER", "HEAD", "EMBD", "DIM", "WIDTH", "ASPECT", "MLP", "WINDOW"),
        2.0,
    ),
    ("weight decay", ("DECAY", "WD"), 1.5),
    ("optimizer", ("BETA", "MOMENTUM", "MUON", "NS_STEPS", "EPS"), 1.0),
    ("regularisation", ("DROPOUT", "CLIP", "SOFTCAP"), 1.0),
    ("position encoding", ("ROPE", "ROTARY"), 1.0),
    ("initialisation", ("INIT", "STD"), 1.0),
)
"""Theme, words of names that belong to it, and how much such constants tend to matter."""


@dataclass
class _History:
    """What the record says about one constant."""

    points: list[tuple[float, float]] = field(default_factory=list)
    """(value, val_bpb relative to the incumbent now); negative is better."""


@dataclass(frozen=True)
class _Step:
    """One new value of one constant."""

    name: str
    value: Number
    gain: float
    """Expected, in bpb."""
    rank: float


class SearchProposer:
    """Proposes a new value for one constant of the first Python file."""

    kind = "search"
    name = "`search`"

    def propose(self, context: Context, stop: threading.Event) -> Proposal:
        """Return a proposal; see `Proposer.propose`.

        Raises:
            ProposerUnavailableError: there is nothing to search, or nothing new was found.
            CancelledError: `stop` was set.
        """
        path, program = self._program(context)
        ranges = self._ranges(program, path, context.session)
        history = _read_history(context, ranges)
        steps = _steps(context, ranges, history)
        for chosen in itertools.islice(_in_order(steps), _MAX_ATTEMPTS):
            if stop.is_set():
                raise CancelledError("the search was stopped")
            changes = {step.name: step.value for step in chosen}
            if program.broken(changes) is not None:
                continue
            files = {**context.files, path: constants.replace(program, changes)}
            longest = max(context.max_lines, len(program.text.splitlines()))
            refusal = edits.check_change(context, files, max_lines=longest)
            if refusal is None:
                return _proposal(context, program, chosen, files, history)
        raise ProposerUnavailableError(
            f"the search found no untried values for the {len(ranges)} constants of `{path}`",
            hint="widen the ranges in the comments, or let an LLM propose",
            retry_seconds=None,
        )

    def check(self) -> str:
        """Say that it is there: it needs nothing."""
        return "search: no model and no network needed"

    def _program(self, context: Context) -> tuple[str, Program]:
        path = next((p for p in context.files if p.endswith(".py")), None)
        if path is None:
            raise ProposerUnavailableError(
                "no editable file is Python, so there are no constants to search",
                hint="name one in `[task] editable`",
                retry_seconds=None,
            )
        try:
            return path, constants.parse(context.files[path])
        except (SyntaxError, ValueError) as exc:
            raise ProposerUnavailableError(
                f"`{path}` of the incumbent is not valid Python: {exc}", retry_seconds=None
            ) from exc

    def _ranges(self, program: Program, path: str, session: Session) -> dict[str, Range]:
        known = {"max_seq_len": session.setup.max_seq_len} if session.setup else {}
        found = {c.name: space.find_range(c, known) for c in program.constants}
        ranges = {name: r for name, r in found.items() if r is not None}
        if not ranges:
            raise ProposerUnavailableError(
                f"`{path}` has no numeric UPPER_CASE constant to search",
                hint="write tunable numbers as UPPER_CASE constants at the top of the file",
                retry_seconds=None,
            )
        return ranges


def _mix(*parts: object) -> int:
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _theme(name: str) -> tuple[str, float]:
    for theme, words, weight in _THEMES:
        if any(word in name for word in words):
            return theme, weight
    return "other", 0.7


def _comparable(session: Session) -> list[Experiment]:
    """Judged experiments whose numbers may be compared with the incumbent's."""
    key = session.setup.key if session.setup else None
    return [
        e
        for e in session.experiments
        if e.verdict is not None and (key is None or not e.setup or e.setup == key)
    ]


def _read_history(context: Context, ranges: Mapping[str, Range]) -> dict[str, _History]:
    """Turn the record into observations for each constant, relative to the incumbent."""
    experiments = _comparable(context.session)
    parents = {e.commit: e for e in experiments if e.commit}
    deltas: dict[int, float] = {}
    for e in experiments:
        parent = parents.get(e.parent)
        if e.number and parent and e.val_bpb is not None and parent.val_bpb is not None:
            deltas[e.number] = e.val_bpb - parent.val_bpb
    penalty = _penalty(list(deltas.values()))
    kept = [e for e in experiments if e.verdict is Verdict.KEEP and e.number and not e.reverted_by]
    history = {name: _History() for name in ranges}
    for e in experiments:
        failed = e.verdict in (Verdict.CRASH, Verdict.INVALID)
        if e.number == 0 or (e.number not in deltas and not failed):
            continue
        delta = deltas.get(e.number, penalty) if not failed else penalty
        for name, value in e.parameters.items():
            if name not in history:
                continue
            since = sum(
                deltas.get(k.number, 0.0)
                for k in kept
                if k.number >= e.number and name in k.parameters
            )
            history[name].points.append((value, delta - since))
    pending_value = statistics.median([0.0, *deltas.values()])
    for proposal in context.in_flight:
        for name, value in proposal.parameters.items():
            if name in history:
                history[name].points.append((value, max(pending_value, 0.0)))
    return history


def _penalty(deltas: Sequence[float]) -> float:
    """What a crash counts: the worst tenth of what was measured, never a gain."""
    if not deltas:
        return _DEFAULT_PENALTY
    ordered = sorted(deltas)
    worst = ordered[min(len(ordered) - 1, math.floor(_PENALTY_QUANTILE * len(ordered)))]
    return max(worst, 1e-4)


def _steps(
    context: Context, ranges: Mapping[str, Range], history: Mapping[str, _History]
) -> list[_Step]:
    """Return every step of every constant that its range allows, the most promising first."""
    rng = np.random.default_rng(_mix(context.session.seed, context.number))
    noise = context.noise_bpb or _DEFAULT_NOISE
    effects = [abs(delta) for record in history.values() for _, delta in record.points]
    scale = statistics.median(effects) if len(effects) >= 5 else _DEFAULT_SCALE
    bowls = Bowls(max(scale, 2.0 * noise), noise, rng)
    found: list[_Step] = []
    for name, r in ranges.items():
        here = r.to_coordinate(r.constant.value)
        assert here is not None
        at = [(r.to_coordinate(value), delta) for value, delta in history[name].points]
        tried = [((c - here) / r.notch, delta) for c, delta in at if c is not None]
        values = _values(r, here)
        gains = bowls.gains(tried, [step for step, _ in values])
        weight = _theme(name)[1] ** _THEME_POWER
        for (_, value), gain in zip(values, gains, strict=True):
            rank = (float(gain) + 0.01 * noise) * weight * math.exp(rng.normal(0.0, _JITTER))
            found.append(_Step(name, value, float(gain), rank))
    return sorted(found, key=lambda step: -step.rank)


def _values(r: Range, here: float) -> list[tuple[float, Number]]:
    """Return the values within reach and how many notches away they are, each once."""
    low, high = r.bounds
    found: dict[Number, float] = {}
    for step in _STEPS:
        if low - 1e-9 <= here + step * r.notch <= high + 1e-9:
            value = r.from_coordinate(here + step * r.notch)
            at = r.to_coordinate(value)
            if value != r.constant.value and at is not None:
                found.setdefault(value, (at - here) / r.notch)
    return [(step, value) for value, step in found.items()]


def _in_order(steps: Sequence[_Step]) -> Iterator[tuple[_Step, ...]]:
    """Yield single steps, then pairs of steps of two constants."""
    yield from ((step,) for step in steps)
    yield from (pair for pair in itertools.combinations(steps, 2) if pair[0].name != pair[1].name)


def _proposal(
    context: Context,
    program: Program,
    chosen: Sequence[_Step],
    files: Mapping[str, str],
    history: Mapping[str, _History],
) -> Proposal:
    before = {c.name: c for c in program.constants}
    parts = [
        f"{s.name} {before[s.name].literal} -> {constants.format_number(s.value, before[s.name].literal)}"
        for s in chosen
    ]
    num_known = sum(len(history[s.name].points) for s in chosen)
    basis = "no earlier trial of it"
    if num_known:
        basis = f"{num_known} earlier trial{'s' if num_known != 1 else ''} of it"
    return Proposal(
        description=", ".join(parts),
        files=files,
        parent=context.parent,
        proposer="search",
        hypothesis=f"the best bet among all steps of all constants, from {basis}",
        expected_effect=f"{-sum(s.gain for s in chosen):+.6f} val_bpb on average",
        theme=_theme(chosen[0].name)[0],
        parameters={s.name: float(s.value) for s in chosen},
    )
