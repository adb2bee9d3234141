"""The `search` proposer: a Tree-structured Parzen Estimator over the numeric constants of train.py.

It needs no network and keeps nothing: what it knows is the record. Each recorded experiment that changed constants
gives one observation for each of them, its val_bpb relative to the incumbent of its time, corrected for what kept
changes of the same constant did since; so observations stay comparable while the branch moves. Crashes and invalid
trials count as bad as the worst tenth of what was seen. Constants are chosen by how promising and how little
explored they are; the first tries of a constant are steps of a factor of two up and down, later ones are asked of
Optuna's TPE. Deterministic in (session seed, experiment number, record).

Source: Bergstra et al. 2011 (TPE), as implemented by Optuna. Differs from it in that one to three constants
are drawn at a time and the rest stay at the incumbent.

Trade-offs:
    The correction treats constants as if their effects added up; strongly coupled ones are found slower.
"""

import hashlib
import math
import random
import statistics
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autoresearch.errors import PrerequisiteError
from autoresearch.proposer import edits
from autoresearch.proposer.base import CancelledError, Context, ProposerUnavailableError
from autoresearch.proposer.search import constants
from autoresearch.proposer.search import ranges as space
from autoresearch.proposer.search.constants import Number, Program
from autoresearch.proposer.search.ranges import Range
from autoresearch.types import Experiment, Proposal, Session, Verdict

_MAX_ATTEMPTS = 200
_MIN_OBSERVATIONS = 3
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


@dataclass
class _History:
    """What the record says about one constant."""

    points: list[tuple[float, float]] = field(default_factory=list)
    """(value, val_bpb relative to the incumbent now); negative is better."""
    num_tries: int = 0
    num_gains: int = 0
    num_stale: int = 0
    """Tries since the last gain."""


class SearchProposer:
    """Proposes new values for one to three constants of the first editable file."""

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
        rng = random.Random(_mix(context.session.seed, context.number))
        for attempt in range(_MAX_ATTEMPTS):
            if stop.is_set():
                raise CancelledError("the search was stopped")
            chosen = _choose(ranges, history, rng, attempt)
            seed = _mix(context.session.seed, context.number, attempt)
            changes = _new_values(chosen, history, rng, seed)
            if not changes or program.broken(changes) is not None:
                continue
            files = {**context.files, path: constants.replace(program, changes)}
            longest = max(context.max_lines, len(program.text.splitlines()))
            refusal = edits.check_change(context, files, max_lines=longest)
            if refusal is None:
                return _proposal(context, program, changes, files, history)
        raise ProposerUnavailableError(
            f"the search found no untried values for the {len(ranges)} constants of `{path}`",
            hint="widen the ranges in the comments, or let an LLM propose",
            retry_seconds=None,
        )

    def check(self) -> str:
        """Import Optuna and say its version."""
        try:
            import optuna
        except ImportError as exc:
            raise PrerequisiteError(
                "`optuna` cannot be imported, the `search` proposer needs it",
                hint="install it with `pip install optuna`",
                kind="proposer",
            ) from exc
        return f"search: optuna {optuna.__version__}, no network needed"

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
            record = history[name]
            record.points.append((value, delta - since))
            record.num_tries += 1
            is_gain = e.verdict is Verdict.KEEP
            record.num_gains += is_gain
            record.num_stale = 0 if is_gain else record.num_stale + 1
    pending_value = statistics.median([0.0, *deltas.values()])
    for proposal in context.in_flight:
        for name, value in proposal.parameters.items():
            if name in history:
                history[name].points.append((value, max(pending_value, 0.0)))
                history[name].num_tries += 1
                history[name].num_stale += 1
    return history


def _penalty(deltas: Sequence[float]) -> float:
    """What a crash counts: the worst tenth of what was measured, never a gain."""
    if not deltas:
        return _DEFAULT_PENALTY
    ordered = sorted(deltas)
    worst = ordered[min(len(ordered) - 1, math.floor(_PENALTY_QUANTILE * len(ordered)))]
    return max(worst, 1e-4)


def _choose(
    ranges: Mapping[str, Range], history: Mapping[str, _History], rng: random.Random, attempt: int
) -> list[Range]:
    """Draw one to three constants: the promising and the little explored more often."""
    names = list(ranges)
    weights = []
    for name in names:
        record = history[name]
        promise = 1.0 + 2.0 * (record.num_gains > 0)
        best = min((d for _, d in record.points), default=0.0)
        promise += 0.5 if best < 0 else 0.0
        weights.append(_theme(name)[1] * promise / (1.0 + record.num_stale))
    is_fresh = sum(h.num_tries for h in history.values()) < len(names)
    draw = rng.random()
    count = 1 if is_fresh or draw < 0.5 else 2 if draw < 0.85 else 3
    count = min(len(names), count + attempt // 50)
    chosen: list[str] = []
    while len(chosen) < count:
        pick = rng.choices(names, weights)[0]
        if pick not in chosen:
            chosen.append(pick)
    return [ranges[name] for name in chosen]


def _new_values(
    chosen: Sequence[Range], history: Mapping[str, _History], rng: random.Random, seed: int
) -> dict[str, Number]:
    changes: dict[str, Number] = {}
    asked = [r for r in chosen if len(history[r.constant.name].points) >= _MIN_OBSERVATIONS]
    answers = _ask(asked, history, seed) if asked else {}
    for r in chosen:
        name = r.constant.name
        if name in answers:
            value = r.from_coordinate(answers[name])
        else:
            here = r.to_coordinate(r.constant.value)
            assert here is not None
            value = r.from_coordinate(here + _step(r, history[name], here, rng))
        if value != r.constant.value:
            changes[name] = value
    return changes


def _step(r: Range, record: _History, here: float, rng: random.Random) -> float:
    """A first step up or down: on after a gain, the other way after a loss."""
    tried = [(r.to_coordinate(value), delta) for value, delta in record.points]
    known = [(c - here, delta) for c, delta in tried if c is not None and c != here]
    sign = rng.choice((-1.0, 1.0))
    if known:
        offset, delta = min(known, key=lambda pair: pair[1])
        sign = math.copysign(1.0, offset if delta < 0 else -offset)
    low, high = r.bounds
    if not low <= here + sign * r.notch <= high:
        sign = -sign
    return sign * r.notch * rng.choice((0.5, 1.0, 1.0, 2.0) if known else (1.0,))


def _ask(asked: Sequence[Range], history: Mapping[str, _History], seed: int) -> dict[str, float]:
    """Ask Optuna's TPE for a coordinate of each range, after feeding it what is known."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(n_startup_trials=0, seed=seed)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    distributions: dict[str, Any] = {}
    for r in asked:
        name = r.constant.name
        low, high = r.bounds
        distributions[name] = optuna.distributions.FloatDistribution(low, high)
        points = [(r.constant.value, 0.0), *history[name].points]
        for value, delta in points:
            coordinate = r.to_coordinate(value)
            if coordinate is None:
                continue
            study.add_trial(
                optuna.trial.create_trial(
                    params={name: min(max(coordinate, low), high)},
                    distributions={name: distributions[name]},
                    value=delta,
                )
            )
    return {str(k): float(v) for k, v in study.ask(distributions).params.items()}


def _proposal(
    context: Context,
    program: Program,
    changes: Mapping[str, Number],
    files: Mapping[str, str],
    history: Mapping[str, _History],
) -> Proposal:
    before = {c.name: c for c in program.constants}
    parts = [
        f"{name} {before[name].literal} -> {constants.format_number(value, before[name].literal)}"
        for name, value in changes.items()
    ]
    num_known = sum(history[name].num_tries for name in changes)
    basis = (
        f"{num_known} earlier trial{'s' if num_known != 1 else ''} of "
        f"{'it' if len(changes) == 1 else 'them'}"
        if num_known
        else "no earlier trial: a first step"
    )
    return Proposal(
        description=", ".join(parts),
        files=files,
        parent=context.parent,
        proposer="search",
        hypothesis=f"the search expects a better value here, from {basis}",
        theme=_theme(next(iter(changes)))[0],
        parameters={name: float(value) for name, value in changes.items()},
    )
