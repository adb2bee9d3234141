"""The `search` proposer: Optuna's Tree-structured Parzen Estimator over the numeric constants of train.py.

It needs no network and stores nothing: an Optuna study is made from the record for each question. A past experiment
that changed constants is a trial of it, with its score relative to the incumbent of its time, corrected for what kept
changes of the same constants did since; so trials stay comparable while the branch moves. Crashes and invalid trials
count as bad as the worst tenth of what was seen. Constants are chosen by how promising and how little explored they
are; the first tries of a constant are steps of a factor of two up and down, later ones are asked of the study.
Deterministic in (session seed, experiment number, record).

Source: Bergstra et al. 2011 (TPE), as implemented by Optuna. One to three constants are drawn at a time and the rest
stay at the incumbent.

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
from typing import TYPE_CHECKING

from autoresearch.errors import PrerequisiteError
from autoresearch.proposer import edits
from autoresearch.proposer.base import CancelledError, Context, ProposerUnavailableError
from autoresearch.proposer.prompt import Preview
from autoresearch.proposer.search import constants
from autoresearch.proposer.search import ranges as space
from autoresearch.proposer.search.constants import Number, Program
from autoresearch.proposer.search.ranges import Range
from autoresearch.types import Experiment, Proposal, Session, Verdict

if TYPE_CHECKING:
    from optuna import Study

_MAX_ATTEMPTS = 200
_MIN_POINTS = 3
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


@dataclass(frozen=True)
class _Try:
    """An experiment, or one in flight, as the search sees it."""

    parameters: Mapping[str, float]
    delta: float
    """Loss relative to the incumbent now; negative is better."""
    is_gain: bool = False


@dataclass
class _History:
    """What the record says about one constant."""

    points: list[tuple[float, float]] = field(default_factory=list)
    """Value and delta of each try."""
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
        tries = _tries(context)
        history = _history(tries, ranges)
        study = None
        rng = random.Random(_mix(context.session.seed, context.number))
        for attempt in range(_MAX_ATTEMPTS):
            if stop.is_set():
                raise CancelledError("the search was stopped")
            chosen = _choose(ranges, history, rng, attempt)
            asked = [r for r in chosen if len(history[r.constant.name].points) >= _MIN_POINTS]
            if asked and study is None:
                study = _study(tries, ranges, _mix(context.session.seed, context.number, 0))
            answers = (
                study.ask({r.constant.name: r.distribution for r in asked}).params if study else {}
            )
            changes = _new_values(chosen, answers, history, rng)
            if not changes or program.broken(changes) is not None:
                continue
            files = {**context.files, path: constants.replace(program, changes)}
            refusal = edits.check_change(context, files)
            if refusal is None:
                return _proposal(context, program, changes, files, history)
        raise ProposerUnavailableError(
            f"the search found no untried values for the {len(ranges)} constants of `{path}`",
            hint="widen the ranges in the comments, or let an LLM propose",
            retry_seconds=None,
        )

    def preview(self, context: Context) -> Preview:  # noqa: ARG002 - the record is read when it proposes
        """Return that there is no prompt; see `Proposer.preview`."""
        return Preview(self.kind)

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
            setup = context.session.setup
            known = {"MAX_SEQ_LEN": setup.max_seq_len} if setup else {}
            return path, constants.parse(context.files[path], known)
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


def _tries(context: Context) -> list[_Try]:
    """Turn the record into tries, relative to the incumbent."""
    experiments = _comparable(context.session)
    parents = {e.commit: e for e in experiments if e.commit}
    sign = context.session.metric.sign
    deltas: dict[int, float] = {}
    for e in experiments:
        parent = parents.get(e.parent)
        if e.number and parent and e.score is not None and parent.score is not None:
            deltas[e.number] = sign * (e.score - parent.score)
    penalty = _penalty(list(deltas.values()))
    kept = [e for e in experiments if e.verdict is Verdict.KEEP and e.number and not e.reverted_by]
    tries = []
    for e in experiments:
        failed = e.verdict in (Verdict.CRASH, Verdict.INVALID)
        if e.number == 0 or (e.number not in deltas and not failed):
            continue
        since = sum(
            deltas.get(k.number, 0.0)
            for k in kept
            if k.number >= e.number and k.parameters.keys() & e.parameters.keys()
        )
        delta = penalty if failed else deltas[e.number]
        tries.append(_Try(e.parameters, delta - since, e.verdict is Verdict.KEEP))
    pending = max(statistics.median([0.0, *deltas.values()]), 0.0)
    return [*tries, *(_Try(p.parameters, pending) for p in context.in_flight)]


def _history(tries: Sequence[_Try], ranges: Mapping[str, Range]) -> dict[str, _History]:
    history = {name: _History() for name in ranges}
    for one in tries:
        for name, value in one.parameters.items():
            if name in history:
                record = history[name]
                record.points.append((value, one.delta))
                record.num_gains += one.is_gain
                record.num_stale = 0 if one.is_gain else record.num_stale + 1
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
    is_fresh = sum(len(h.points) for h in history.values()) < len(names)
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
    chosen: Sequence[Range],
    answers: Mapping[str, Number],
    history: Mapping[str, _History],
    rng: random.Random,
) -> dict[str, Number]:
    changes: dict[str, Number] = {}
    for r in chosen:
        name = r.constant.name
        value = r.decode(answers[name]) if name in answers else _step(r, history[name], rng)
        if value != r.constant.value:
            changes[name] = value
    return changes


def _step(r: Range, record: _History, rng: random.Random) -> Number:
    """Return a first step up or down: on after a gain, the other way after a loss."""
    present = r.constant.value
    known = [
        (value - present, delta)
        for value, delta in record.points
        if value != present and r.encode(value) is not None
    ]
    sign = rng.choice((-1.0, 1.0))
    if known:
        offset, delta = min(known, key=lambda pair: pair[1])
        sign = math.copysign(1.0, offset if delta < 0 else -offset)
    if r.moved(sign) == present:
        sign = -sign
    return r.moved(sign * rng.choice((0.5, 1.0, 1.0, 2.0) if known else (1.0,)))


def _study(tries: Sequence[_Try], ranges: Mapping[str, Range], seed: int) -> "Study":
    """Return a study in memory that knows the incumbent and every try."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(n_startup_trials=0, seed=seed)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    distributions = {name: r.distribution for name, r in ranges.items()}
    present = _Try({name: r.constant.value for name, r in ranges.items()}, 0.0)
    for one in (present, *tries):
        encoded = {n: ranges[n].encode(v) for n, v in one.parameters.items() if n in ranges}
        params = {name: value for name, value in encoded.items() if value is not None}
        study.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions={name: distributions[name] for name in params},
                value=one.delta,
            )
        )
    return study


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
    num_known = sum(len(history[name].points) for name in changes)
    what = "it" if len(changes) == 1 else "them"
    basis = f"a better value is likely here, by {num_known} earlier trials of {what}"
    if num_known < 2:
        basis = (
            f"second trial of {what}"
            if num_known
            else f"first trial of {what}; nothing learned yet"
        )
    return Proposal(
        description=", ".join(parts),
        files=files,
        parent=context.parent,
        proposer="search",
        hypothesis=basis,
        theme=_theme(next(iter(changes)))[0],
        parameters={name: float(value) for name, value in changes.items()},
    )
