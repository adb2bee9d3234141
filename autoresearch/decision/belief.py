"""What a session knows: one filter over the rows of its journal, from which all is decided and shown.

A row is a trial: score, variance, commit, parent, seed, slot, pace, place in the journal. The state
(`decision/posterior.py`) has a column for each level that was used lately, for the luck of each seed of the loop, and,
once there is a reason for one, for the machine's offset, the slope on its pace and each further slot. A row of measured
code is observed, whatever it was run for; a candidate is weighed against its own parent's level, at its verdict. The
machine's offset takes what a later trial of known code is off by, so that a level is always one at the usual pace.

Forward only: `believe` takes in what the journal holds beyond what was believed before. Pure, no disk:
`session/beliefs.py` stores what `dump` gives.
"""

import copy
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from autoresearch.decision.measuring import PACE_MARK
from autoresearch.decision.posterior import (
    Effect,
    Knowledge,
    NoiseGrid,
    Rows,
    default_prior,
    noise_grid,
    normalise,
    start,
)
from autoresearch.decision.scores import (
    Noise,
    audit_variance,
    good_results,
    good_trials,
    is_measured_tip,
    pace_of,
    setup_of,
    trial_seed,
    with_cases,
)
from autoresearch.types import (
    NUM_CASES,
    Doubt,
    Experiment,
    Reason,
    Session,
    State,
    Trial,
    TrialResult,
    Verdict,
)

VERSION = 1
"""Grows when the stored form of a belief changes; one of another version is not read."""
LIVE = 4
"""Levels in the state with all that ties them together, the last ones used; others are known by mean and deviation."""
NUM_SEEDS = 4
"""Seeds of the loop whose luck is a column: no policy runs a candidate more often."""
DRIFT = 4.0
"""Standard deviations from which a later trial of known code means that the machine moved."""
REOPEN_ABOVE = 0.3
"""Probability of a gain above which a discard is tried again once the machine is known to have moved."""
_RECENT = 9
"""Experiments, the latest, by whose trials is said what a mean over cases errs by."""
CLEAR_SHARE = 0.5
"""Part of the noise that a gain must exceed to count as a find."""
SLOPE_SD = 200.0
"""Standard deviation of a slope before any repeat, in units of the noise for a pace of 1, on the log scale."""
SLOPE_SPREAD = 0.1
"""Relative standard deviation of the slopes of different programs about the common one."""
ADJUST_MOST = 0.02
"""Part of a score that a pace takes off at most, against the trial of the tip that is nearest in pace."""
NUM_BESIDE = 12
"""Trials of the tip that a candidate's pace is compared with, the last ones."""
SMALL_PACE = 0.002
"""Difference from the usual pace that is none: what a quiet machine's own services take."""
SHOWN_PACE = 0.02
"""Difference from the usual pace that is shown."""
SLOT_SD = 1.0
"""Standard deviation, in units of the noise, of what a slot adds to its scores before its first trial."""
NOTHING_SEEN = (np.array(0.0), np.array(0.0))
"""Squares of repeats, and how many, before there are any."""
_MACHINE = "machine"


@dataclass(frozen=True)
class Estimate:
    """What is believed of one experiment, for the ladder and the proposer; in units of the metric."""

    number: int
    p_real: float | None
    """Probability that it improves on its parent; None for code that was measured as it stood."""
    p_clear: float | None
    """Probability that it improves by more than half the noise."""
    effect: float
    """Posterior mean against its parent."""
    level: float | None = None
    """Posterior mean of its true score at the usual pace; of what stood on the branch only."""
    level_sd: float | None = None


class Row(NamedTuple):
    """One trial as the filter takes it; its commit and parent are the experiment's."""

    place: int
    score: float
    variance: float
    """What the audit adds, in units of the metric, squared."""
    seed: int
    slot: str = ""
    is_by_cases: bool = False
    """The score is a mean over cases."""
    pace: tuple[tuple[str, float], ...] = ()
    """Log of what each load left of the machine."""


def row_of(result: TrialResult, place: int = 0) -> Row:
    """Return the row of a good trial."""
    assert result.loss is not None
    slot = str(result.extra.get("slot", ""))
    pace = tuple(pace_of(result).items())
    is_by_cases = NUM_CASES in result.extra
    return Row(place, result.loss, audit_variance(result), result.seed, slot, is_by_cases, pace)


def rows_of(experiment: Experiment, trials: Sequence[Trial]) -> tuple[Row, ...]:
    """Return the rows of good trials of an experiment; of one that was opened again all as the machine is now."""
    found, doubt = [], experiment.doubt
    for trial in trials:
        row = row_of(trial.result, trial.place)
        if doubt is not None and trial.place < doubt.place:
            row = row._replace(score=row.score - doubt.shift, variance=row.variance + doubt.sd**2)
        found.append(row)
    return tuple(found)


class _Step(NamedTuple):
    """What the filter takes in at once: a trial of measured code, or a candidate with its verdict."""

    place: int
    number: int
    experiment: Experiment
    rows: tuple[Row, ...]
    is_own: bool
    is_kept: bool
    event: str


@dataclass
class Belief:
    """The state of the filter after a part of the journal."""

    setup: str
    seeds: dict[int, int]
    """Seed -> its index in the stream of the loop's seeds."""
    journal: str = ""
    place: int = 0
    """Of the last row that was taken in."""
    last: tuple[int, str] = (0, "")
    """Number and event of the last trial taken in: by them a journal is known to be the same one."""
    columns: tuple[str, ...] = ()
    """`level:SHA`, the last used last, `seed:0`, `slot:NAME`, `pace:stolen`, `machine`."""
    usual: dict[str, float] = field(default_factory=dict)
    """The usual pace, by load: that of the first trial in which it was counted."""
    levels: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Commit -> mean and standard deviation of a level that is no column any more."""
    programs: dict[str, str] = field(default_factory=dict)
    """Identity of the editable files -> commit that was measured with them."""
    commits: dict[int, str] = field(default_factory=dict)
    """Number of what stood -> its commit."""
    estimates: dict[int, Estimate] = field(default_factory=dict)
    tip: str = ""
    """Commit that was kept or measured last."""
    since: tuple[tuple[int, tuple[Row, ...]], ...] = ()
    """Discards made from the tip since its own last trial, by number."""
    beside: tuple[Row, ...] = ()
    """Of the tip: the trials that a candidate's pace is compared with."""
    anchor: tuple[tuple[str, ...], Knowledge] | None = None
    """Columns and what was known of them then."""
    doubts: dict[int, Doubt] = field(default_factory=dict)
    """Of those, the ones that may be gains once it showed that the machine had moved."""
    knowledge: Knowledge | None = None

    # Reading

    @property
    def known(self) -> Knowledge:
        """What is known of the columns.

        Raises:
            ValueError: nothing is measured yet.
        """
        if self.knowledge is None:
            raise ValueError(f"nothing is measured in setup `{self.setup}`")
        return self.knowledge

    def noise(self) -> Noise:
        """Return the luck between trials of the same code, with its uncertainty."""
        known = self.knowledge or start(noise_grid(*NOTHING_SEEN, np.array(1.0)))
        return Noise(float(known.noise), known.noise_quantile(0.05), known.noise_quantile(0.95))

    def level(self, commit: str) -> tuple[float, float] | None:
        """Return mean and standard deviation of a level at the usual pace; None if it was never measured."""
        name = _level(commit)
        if name not in self.columns:
            return self.levels.get(commit)
        mean, sd = self.known.moments(self.columns.index(name))
        return float(mean), float(sd)

    def believed(self) -> dict[int, Estimate]:
        """Return what is believed of every measured experiment, by number."""
        found = dict(self.estimates)
        for number, commit in self.commits.items():
            level, level_sd = self.level(commit) or (None, None)
            found[number] = replace(found[number], level=level, level_sd=level_sd)
        return found

    def effect(self, parent: str, rows: Sequence[Row]) -> Effect:
        """Return what trials of a candidate say of its effect on its parent's level.

        Raises:
            ValueError: nothing is measured yet.
        """
        after = copy.copy(self)
        taken = after.taken(rows, after.refer(parent))
        return after.known.effect(taken)

    def threshold(self, parent: str, seed: int, line: float, worth: float) -> float:
        """Return the score above which a first trial is worth keeping with less than probability `line`.

        Args:
            parent: Commit of the candidate's parent.
            seed: Of the trial.
            line: The probability.
            worth: Effect below which it is worth keeping.
        """
        after = copy.copy(self)
        rows = after.taken([Row(0, 0.0, 0.0, seed)], after.refer(parent))
        usual, sd = (float(x[0]) for x in after.known.expected(rows))
        low, high = usual - 2000 * sd, usual + 20 * sd
        for _ in range(5):
            scores = np.linspace(low, high, 17)
            chance = after.known.effect(rows._replace(scores=scores[:, None])).below(worth)
            first = int(np.argmax(chance <= line)) if np.any(chance <= line) else len(scores) - 1
            low, high = float(scores[max(first - 1, 0)]), float(scores[first])
        return high

    def pace_mark(self, rows: Sequence[Row]) -> str:
        """Return a sentence where trials ran at more than `SHOWN_PACE` off the usual pace, else ""."""
        off = [pace - self.usual.get(load, pace) for row in rows for load, pace in row.pace]
        largest = max(off, key=abs, default=0.0)
        if abs(largest) <= SHOWN_PACE:
            return ""
        return f"{PACE_MARK} {-largest:+.0%} of the machine against the usual; its score is at the usual pace"

    def apart(self, row: Row) -> tuple[float, float]:
        """Return what is taken off a trial for its pace, against that of the tip's trial nearest to it in pace.

        Mean and standard deviation in units of the metric; the slopes of different programs are taken to differ.
        """
        after = copy.copy(self)
        own, *others = after.taken([row, *self.beside], _level(self.tip), is_known=True).design
        is_pace = np.array([name.startswith("pace:") for name in after.columns])
        weight = np.exp(after.known.log_weight)
        found = [(math.inf, 0.0)] if not others else []
        for other in others:
            gap = ((own - other) * is_pace)[None]
            mean = float(np.sum(weight * (after.known.mean @ gap[0])))
            square = float(after.known.square(gap)[0])
            found.append((math.sqrt((1 + SLOPE_SPREAD**2) * square - mean**2 + 1e-300), mean))
        sd, mean = min(found)
        return mean, sd

    # Taking in

    def after(self, steps: Iterable[_Step], journal: str) -> "Belief":
        """Return what is believed once further rows are taken in; this one stays as it is."""
        found = copy.copy(self)
        for name in ("levels", "programs", "commits", "estimates", "usual"):
            setattr(found, name, dict(getattr(self, name)))
        for step in steps:
            if step.is_own:
                found.observe(step)
            elif found.tip:
                found.absorb(step)
            found.place, found.last = step.place, (step.number, step.event)
        found.journal = journal
        return found

    def observe(self, step: _Step) -> None:
        """Take in one trial of code that is measured as it stands."""
        experiment, row = step.experiment, step.rows[0]
        if self.knowledge is None:
            self.knowledge = start(noise_grid(*NOTHING_SEEN, np.array(row.score)))
        for load, pace in row.pace:
            self.usual.setdefault(load, pace)
        commit = experiment.commit
        is_later = self._stand(commit)
        twin = self.programs.get(experiment.identity, "")
        # A revert may come back to a program that is known.
        if not is_later and twin and self._stand(twin):
            self._set("copy", self._at(_level(twin)))
            self.columns = (*self.columns[:-1], _level(commit))
            is_later = True
        elif not is_later:
            self._add(_level(commit), row.score, self.known.flat())
        else:
            is_later = 0 < experiment.judged_place < row.place
        if step.number not in self.estimates:
            self.estimates[step.number] = Estimate(step.number, None, None, 0.0)
        tip = self.tip
        if is_measured_tip(experiment):
            self._stands(step.number, experiment)
        self.doubts = {}
        is_off = self._see(row, commit, is_later=is_later)
        if is_off and commit == self.tip and self.since and self.anchor is not None:
            self._smooth()
            self._see(row, commit, is_later=True)
        self.knowledge = self.known.replaced()
        if all(e.p_real is None for e in self.estimates.values()):
            grid = replace(self.knowledge.grid, centre=self.knowledge.noise)
            self.knowledge = replace(self.knowledge, grid=grid, prior=default_prior(grid))
        self._trim()
        if commit == self.tip:
            self.beside = (*self.beside, row) if tip == commit else (row,)
            self._rest()

    def _see(self, row: Row, commit: str, *, is_later: bool) -> bool:
        """Take in one trial of a level that is a column; whether it was later and far off what was expected of it."""
        self._stand(commit)
        rows = self.taken([row], _level(commit), is_known=True)
        is_off = is_later and self._loosen(rows)
        rows = self.taken([row], _level(commit), is_known=True)
        self.knowledge = self.known.observe(rows, is_repeat=not is_off)
        return is_off

    def _rest(self) -> None:
        """Note that the tip was run just now: what is discarded from here on rests on this."""
        self.since, self.anchor = (), (self.columns, self.known)
        self.beside = self.beside[-NUM_BESIDE:]

    def _loosen(self, rows: Rows) -> bool:
        """Let the machine's offset explain a trial of known code that is far off; whether it was."""
        before = (self.columns, self.knowledge)
        if _MACHINE not in self.columns:
            self._add(_MACHINE, 0.0, np.zeros(1))
            rows = rows._replace(design=np.pad(rows.design, ((0, 0), (0, 1)), constant_values=1.0))
        self.knowledge, is_off = self.known.loosened(self._at(_MACHINE), rows, DRIFT)
        if not is_off:
            self.columns, self.knowledge = before
        return bool(is_off)

    def absorb(self, step: _Step) -> None:
        """Take in a candidate with its verdict."""
        experiment, number = step.experiment, step.number
        name = self.refer(experiment.parent)
        rows = self.taken(step.rows, name)
        effect = self.known.effect(rows)
        is_kept, at = step.is_kept, self._at(name)
        if experiment.doubt is not None and number in self.estimates and not is_kept:
            return  # its first trials taught what they could, and one more of a discard teaches little
        if is_kept:
            self._set("copy", at)
            self.columns = (*self.columns[:-1], _level(experiment.commit))
            rows = rows._replace(design=np.pad(rows.design, ((0, 0), (0, 1))))
            at = len(self.columns) - 1
        self.knowledge = self.known.absorb(rows, effect, is_kept, at).replaced()
        self.estimates[number] = estimate_of(number, effect, float(self.knowledge.noise))
        if is_kept:
            self._stands(number, experiment)
            self.doubts = {}
        elif name == _level(self.tip):
            self.since = (*self.since, (number, step.rows))
        self._trim()
        if is_kept:
            self.beside = step.rows
            self._rest()

    def _smooth(self) -> None:
        """Weigh the discards since the tip's last trial again, now that the machine is known to have moved.

        It moved once, after any of them alike before what they measured is weighed: this gives each the probability
        that it ran after that. They are taken in again so; which may be gains is noted.
        """
        assert self.anchor is not None
        now, unsure = (float(x) for x in self.known.moments(self._at(_MACHINE)))
        old, new = copy.copy(self), copy.copy(self)
        old.columns, old.knowledge = new.columns, new.knowledge = self.anchor
        before = (
            float(old.known.moments(old.columns.index(_MACHINE))[0])
            if _MACHINE in old.columns
            else 0.0
        )
        left = [i for i, name in enumerate(old.columns) if name != _MACHINE]
        new.knowledge = old.known.taken(left).added(now, np.full(1, unsure**2))
        new.columns = (*(old.columns[i] for i in left), _MACHINE)
        found = [[b.effect(self.tip, rows) for b in (old, new)] for _, rows in self.since]
        said = np.array([[float(e.log_evidence) for e in pair] for pair in found])
        begins = np.concatenate([[0.0], np.cumsum(said[:, 0] - said[:, 1])])
        moved = np.cumsum(np.exp(normalise(begins)))[:-1].tolist()
        self.columns, self.knowledge = self.anchor
        self.doubts = {}
        for (number, rows), pair, chance in zip(self.since, found, moved, strict=True):
            step = now - before
            spread = chance * (1 - chance) * step**2
            name = self.refer(self.tip)
            then = [
                r._replace(score=r.score - chance * step, variance=r.variance + spread)
                for r in rows
            ]
            taken = self.taken(then, name)
            effect = self.known.effect(taken)
            self.knowledge = self.known.absorb(taken, effect, False, self._at(name))
            p = (1 - chance) * float(pair[0].below(0.0)) + chance * float(pair[1].below(0.0))
            estimate = estimate_of(number, effect, float(self.known.noise))
            self.estimates[number] = replace(estimate, p_real=p)
            if p > REOPEN_ABOVE:
                self.doubts[number] = Doubt(p, (chance - 1) * step, math.sqrt(spread))

    def _stands(self, number: int, experiment: Experiment) -> None:
        self.tip = self.commits[number] = experiment.commit
        if experiment.identity:
            self.programs[experiment.identity] = experiment.commit

    # Columns

    def _at(self, name: str) -> int:
        return self.columns.index(name)

    def _add(
        self, name: str, mean: float, variance: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"
    ) -> None:
        self.knowledge = self.known.added(mean, variance)
        self.columns = (*self.columns, name)

    def _set(self, name: str, source: int) -> None:
        """Add a column that is the same as another one so far."""
        self.knowledge = self.known.taken([*range(len(self.columns)), source])
        self.columns = (*self.columns, name)

    def _stand(self, commit: str) -> bool:
        """Make the level of a commit a column, the last one used; False if it was never measured."""
        name = _level(commit)
        if name in self.columns:
            at = self._at(name)
            order = [*(i for i in range(len(self.columns)) if i != at), at]
            self.knowledge = self.known.taken(order)
            self.columns = tuple(self.columns[i] for i in order)
            return True
        if commit not in self.levels:
            return False
        mean, sd = self.levels[commit]
        self._add(name, mean, np.full(1, sd**2))
        return True

    def refer(self, parent: str) -> str:
        """Return the column of the level a candidate is weighed against: its parent's, else what stood last."""
        commit = parent if self._stand(parent) else self.tip
        if not self._stand(commit):
            raise ValueError(f"nothing is measured in setup `{self.setup}`")
        return _level(commit)

    def taken(self, rows: Sequence[Row], level: str, *, is_known: bool = False) -> Rows:
        """Return rows as the posterior takes them; what columns they need are there then.

        The slope on a pace is that of code that is measured as it stands (`is_known`); a candidate's may differ.
        """
        held = [self._columns_of(row, level) for row in rows]
        variance = (self.known.grid.sigma**2)[:, None]
        first = {
            "seed": self.known.grid.correlation[:, None] * variance,
            "slot": SLOT_SD**2 * variance,
            "pace": SLOPE_SD**2 * variance,
        }
        for name in dict.fromkeys(name for mine in held for name in mine):
            if name not in self.columns:
                self._add(name, 0.0, first[name.partition(":")[0]])
        design = np.zeros((len(rows), len(self.columns)))
        for i, mine in enumerate(held):
            design[i, [self._at(name) for name in mine]] = list(mine.values())
        is_pace = np.array([name.startswith("pace:") for name in self.columns])
        unalike = (0.0 if is_known else SLOPE_SPREAD**2) * self.known.square(design * is_pace)
        beyond = [0.0 if is_known else self._beyond(row) for row in rows]
        return Rows(
            np.array([row.score for row in rows]) + beyond,
            design,
            np.array([row.seed in self.seeds for row in rows]),
            np.array([row.variance for row in rows]) + unalike,
            any(row.is_by_cases for row in rows),
        )

    def _beyond(self, row: Row) -> float:
        """Return what a pace would take off a candidate's score beyond what may be: that stays on."""
        if not row.pace or not any(name.startswith("pace:") for name in self.columns):
            return 0.0
        mean, sd = self.apart(row)
        return max(mean - ADJUST_MOST * abs(row.score), 0.0) if math.isfinite(sd) else 0.0

    def _columns_of(self, row: Row, level: str) -> dict[str, float]:
        """Return how much of each column a row holds; for one that is taken in, the usual pace is set before."""
        held = {level: 1.0}
        if row.seed in self.seeds:
            held[f"seed:{self.seeds[row.seed]}"] = 1.0
        if row.slot:
            held[f"slot:{row.slot}"] = 1.0
        for load, pace in row.pace:
            off = pace - self.usual.get(load, pace)
            if abs(off) > SMALL_PACE:
                held[f"pace:{load}"] = off
        if _MACHINE in self.columns:
            held[_MACHINE] = 1.0
        return held

    def _trim(self) -> None:
        """Write down the levels that were not used for longest, and leave them out of the state."""
        live = [name for name in self.columns if name.startswith("level:")]
        for name in live[: max(len(live) - LIVE, 0)]:
            level = self.level(name.removeprefix("level:"))
            assert level is not None
            self.levels[name.removeprefix("level:")] = level
            left = [i for i, other in enumerate(self.columns) if other != name]
            self.knowledge = self.known.taken(left)
            self.columns = tuple(self.columns[i] for i in left)

    # Storing

    def dump(self) -> bytes:
        """Return the whole state; `load` reads it."""
        header = {k: v for k, v in vars(self).items() if k not in ("knowledge", "anchor")}
        header |= {
            "version": VERSION,
            "estimates": [asdict(e) for e in self.estimates.values()],
            "doubts": [(number, asdict(doubt)) for number, doubt in self.doubts.items()],
            "seeds": list(self.seeds.items()),
            "commits": list(self.commits.items()),
            "anchored": None if self.anchor is None else self.anchor[0],
        }
        arrays: dict[str, Any] = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
        states = (self.knowledge, self.anchor[1] if self.anchor else None)
        for prefix, known in zip(_STATES, states, strict=True):
            if known is not None:
                arrays |= {prefix + name: getattr(known, name) for name in _LEARNT}
                arrays |= {prefix + name: getattr(known.grid, name) for name in _PLACED}
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()


_LEARNT = ("mean", "cov", "log_noise", "log_prior")
_PLACED = ("sigma", "correlation", "centre", "log_expected", "log_share")
_STATES = ("", "anchor_")


def load(data: bytes) -> Belief | None:
    """Return the belief that `dump` wrote, None if these bytes are not one of this version."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes())
            if header.pop("version") != VERSION:
                return None
            known, then = (_read_knowledge(arrays, prefix) for prefix in _STATES)
        number, event = header["last"]
        anchored = header.pop("anchored")
        header |= {
            "knowledge": known,
            "anchor": (tuple(anchored), then) if anchored is not None and then else None,
            "last": (int(number), str(event)),
            "columns": tuple(header["columns"]),
            "since": tuple((n, tuple(map(_read_row, rows))) for n, rows in header["since"]),
            "beside": tuple(map(_read_row, header["beside"])),
            "doubts": {number: Doubt(**doubt) for number, doubt in header["doubts"]},
            "seeds": dict(header["seeds"]),
            "commits": dict(header["commits"]),
            "levels": {commit: (mean, sd) for commit, (mean, sd) in header["levels"].items()},
            "estimates": {e["number"]: Estimate(**e) for e in header["estimates"]},
        }
        return Belief(**header)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        return None


def _read_knowledge(arrays: Mapping[str, Any], prefix: str) -> Knowledge | None:
    if prefix + "mean" not in arrays:
        return None
    grid = NoiseGrid(**{name: arrays[prefix + name] for name in _PLACED})
    learnt = {name: arrays[prefix + name] for name in _LEARNT}
    return Knowledge(grid=grid, prior=default_prior(grid), **learnt)


def _read_row(values: Sequence[Any]) -> Row:
    *others, pace = values
    return Row._make([*others, tuple((str(name), float(value)) for name, value in pace)])


_known: dict[tuple[str, str], Belief] = {}
"""(Session, setup) -> what was believed last in this process."""


def remember(tag: str, belief: Belief) -> None:
    """Let `believe` begin from a belief that was stored."""
    _known[tag, belief.setup] = belief


def believe(session: Session, setup: str | None = None) -> Belief:
    """Return what is believed of a session under a setup, by default the present one."""
    setup = setup_of(session) if setup is None else setup
    known = _known.get((session.tag, setup))
    if known is None or not session.journal or not _continues(known, session):
        known = Belief(setup, {trial_seed(session.seed, i): i for i in range(NUM_SEEDS)})
    if session.journal and known.journal == session.journal:
        return known
    found = known.after(_steps(session, setup, known.place), session.journal)
    if session.journal:
        _known[session.tag, setup] = found
    return found


def _continues(known: Belief, session: Session) -> bool:
    """Whether the session is the one that was read, and what was read of it still stands."""
    number, event = known.last
    if known.seeds.keys() != {trial_seed(session.seed, i) for i in range(NUM_SEEDS)}:
        return False
    if not event:
        return True
    experiment = next((e for e in reversed(session.experiments) if e.number == number), None)
    return experiment is not None and any(t.event == event for t in experiment.trials)


def _steps(session: Session, setup: str, beyond: int) -> list[_Step]:
    """Return what the filter has to take in, in the order of the journal, from the first code that stood."""
    found: list[_Step] = []
    for experiment in session.experiments:
        last = experiment.trials[-1].place if experiment.trials else 0
        if max(last, experiment.judged_place) > beyond or not last:
            found += _of(experiment, setup, beyond)
    return sorted(found, key=lambda step: (step.place, step.number))


def _of(experiment: Experiment, setup: str, beyond: int) -> Iterator[_Step]:
    is_tip = is_measured_tip(experiment)
    is_judged = experiment.state is State.JUDGED
    if experiment.verdict not in (None, Verdict.KEEP, Verdict.DISCARD):
        return
    if experiment.reason == Reason.REJECTED:  # it may be no true score
        return
    judged = experiment.judged_place
    trials = good_trials(experiment, setup)

    def step(
        place: int, which: Sequence[Trial], *, is_own: bool = False, is_kept: bool = False
    ) -> _Step:
        then = experiment if place == judged else replace(experiment, doubt=None)
        rows = rows_of(then, which)
        return _Step(place, experiment.number, experiment, rows, is_own, is_kept, which[-1].event)

    if experiment.doubt is not None and experiment.doubt.judged_place > beyond:
        first = [t for t in trials if t.place <= experiment.doubt.judged_place]
        if first:
            yield step(experiment.doubt.judged_place, first)

    own = trials if is_tip else experiment.later_trials(setup)
    if is_judged and not is_tip:
        before = [t for t in trials if t.place <= judged]
        if before and (judged > beyond or not judged):
            yield step(judged, before, is_kept=experiment.verdict is Verdict.KEEP)
    if is_tip or (is_judged and experiment.verdict is Verdict.KEEP):
        for trial in own:
            if trial.place > beyond or not trial.place:
                yield step(trial.place, [trial], is_own=True)


def _level(commit: str) -> str:
    return f"level:{commit}"


def estimate_of(number: int, effect: Effect, noise: float) -> Estimate:
    """Return what is believed of a candidate by its effect alone."""
    p_clear = float(effect.below(-CLEAR_SHARE * noise))
    return Estimate(number, float(effect.below(0.0)), p_clear, float(effect.mean))


def estimates(session: Session) -> dict[int, Estimate]:
    """Return what is believed of every measured experiment of the current setup, by number."""
    return believe(session).believed()


def measure_noise(session: Session) -> Noise:
    """Return the noise of the session's current setup with its uncertainty, what means over cases err by included."""
    noise, setup = believe(session).noise(), setup_of(session)
    trials = [t for e in session.experiments[-_RECENT:] for t in good_results(e, setup)]
    return Noise(*(with_cases(part, trials) for part in (noise.sd, noise.low, noise.high)))
