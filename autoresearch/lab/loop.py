"""The state machine of a session: propose, try, decide, record, until a limit is reached.

Every step is taken from the record and ends in the record, so a loop that is killed and started again goes on
where the last durable event left it. It takes its parts as arguments and knows no screen, no model and no
provider.

Trade-offs: one slot, so trials run one after another in this thread; only proposing runs beside them.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from autoresearch.config import Config
from autoresearch.errors import PrerequisiteError, WorkError
from autoresearch.events import (
    Abandoned,
    Alerted,
    Event,
    Phase,
    Progress,
    Proposed,
    SessionEnded,
    Spent,
    TrialJudged,
    VerdictGiven,
    now,
)
from autoresearch.lab import decision as rule
from autoresearch.lab.faults import reach
from autoresearch.lab.limits import Limits
from autoresearch.lab.record import Record
from autoresearch.paths import RunDirectory
from autoresearch.proposer.ahead import Ahead
from autoresearch.proposer.base import (
    CancelledError,
    Context,
    EditFailedError,
    ProposerUnavailableError,
)
from autoresearch.types import (
    Decision,
    Experiment,
    Outcome,
    Proposal,
    Session,
    Setup,
    State,
    TrialResult,
    TrialSpec,
    Verdict,
)

HAND_EDIT_SECONDS = 60.0
"""A hand edit becomes an experiment once it is unchanged for this long."""
MAX_TAINTED = 3
"""A trial that is tainted this often in a row is given up as a crash."""

Emit = Callable[[Event | Progress | Phase], None]


class Executor(Protocol):
    """Something that can run a trial; one local device is one slot."""

    def run(
        self,
        spec: TrialSpec,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> TrialResult:
        """Run one trial to its end and judge it; never raises for what the child does."""
        ...


@dataclass(frozen=True)
class Parts:
    """What a loop is made of."""

    run_directory: RunDirectory
    config: Config
    record: Record
    executor: Executor
    ahead: Ahead
    """The proposer, asked from a thread of its own."""
    setup: Setup
    hardware: dict[str, Any]
    limits: Limits
    emit: Emit
    stop: threading.Event
    """Set to end the session: the trial under way is stopped and will be repeated."""
    confirm: Callable[[Session], object] | None = None
    """Called once at the end of a session that ran into a limit."""
    reserve_seconds: Callable[[Session], float] = lambda _: 0.0
    """Time the confirmation will need, kept free out of the hours."""


class _StopSeenError(Exception):
    """The stop event was seen; leaves `_run` from wherever it is."""


@dataclass
class _Clock:
    """Where the wall-clock time of this run went."""

    started: float = field(default_factory=time.monotonic)
    busy: dict[str, float] = field(default_factory=dict)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def add(self, kind: str, seconds: float | None) -> None:
        if seconds:
            self.busy[kind] = self.busy.get(kind, 0.0) + seconds


class Loop:
    """Runs one session until a limit, a stop, or a failure of the lab itself."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._record = parts.record
        self._config = parts.config
        self._clock = _Clock()
        self._random = random.SystemRandom()
        self._edit_seen: tuple[str, float] | None = None
        self._last_status = 0.0

    def run(self) -> str:
        """Run to the end and return the reason it ended, as in `SessionEnded.reason`.

        Raises:
            WorkError: the baseline itself does not run.
            AutoresearchError: the lab can no longer record or restore.
        """
        reason, detail = "error", ""
        try:
            reason, detail = self._run()
        except _StopSeenError:
            reason = "interrupted"
        except WorkError as exc:
            detail = exc.message
            raise
        finally:
            self._parts.ahead.cancel()
            self._keep_last_answer()
            self._append(
                SessionEnded(
                    reason=reason,
                    detail=detail,
                    wall_seconds=round(self._clock.elapsed, 3),
                    busy={k: round(v, 3) for k, v in self._clock.busy.items()},
                )
            )
        return reason

    def _run(self) -> tuple[str, str]:
        if self._incumbent(self._record.session()) is None:
            self._measure_tip()
        while (reason := self._limit_reached()) is None:
            try:
                self._step()
            except ProposerUnavailableError as exc:
                if exc.retry_seconds is None:
                    return "proposer", exc.message
                self._append(Alerted(text=exc.message, command=exc.hint or ""))
                self._wait(exc.retry_seconds)
        if self._parts.confirm is not None:
            self._phase("confirm")
            self._parts.confirm(self._record.session())
            if self._parts.stop.is_set():
                raise _StopSeenError
        return reason, ""

    # -- one step -----------------------------------------------------------------------------

    def _step(self) -> None:
        session = self._record.session()
        waiting = [e for e in session.experiments if e.state is State.PROPOSED]
        if self._incumbent(session) is None:
            self._measure_tip()
        elif waiting:
            self._finish(waiting[0].number)
        elif rule.is_sentinel_due(session, self._config.decision):
            self._trial(self._incumbent_of(session))
        elif (edit := self._hand_edit()) is not None:
            self._store(edit)
        else:
            self._propose()

    def _finish(self, number: int) -> None:
        """Bring one proposed experiment to its verdict, however far it is."""
        while True:
            session = self._record.session()
            experiment = session.experiment(number)
            if experiment.commit == self._record.tip():
                if self._finish_tip(experiment):
                    return
                continue
            incumbent = self._incumbent_of(session)
            if experiment.parent != incumbent.commit:
                if not self._rebase(experiment, incumbent):
                    return
                continue
            trials = [
                t for t in self._trials(experiment) if t.result.outcome is not Outcome.TAINTED
            ]
            if not trials:
                self._trial(experiment)
                continue
            last = trials[-1].result
            if last.outcome is not Outcome.OK:
                verdict = Verdict.CRASH if last.outcome is Outcome.CRASH else Verdict.INVALID
                failure = Decision("discard", last.reason, explanation=last.detail)
                self._judge(experiment, verdict, failure)
                return
            decision = rule.decide(experiment, incumbent, session, self._config.decision)
            reach("decided")
            is_audited = all(t.result.num_audited for t in trials)
            if decision.action == "retest" or (decision.action == "keep" and not is_audited):
                self._trial(experiment, audit=True)
                continue
            self._judge(experiment, Verdict(decision.action), decision)
            return

    def _judge(self, experiment: Experiment, verdict: Verdict, decision: Decision) -> None:
        self._phase("decide", number=experiment.number)
        event = self._record.judge(
            experiment.number, verdict, decision, setup=self._parts.setup.key
        )
        self._parts.emit(event)
        reach("judged")
        if verdict is Verdict.KEEP:
            self._record.update_worktree(self._record.tip())
        self._record.export_tsv()
        reach("exported")

    # -- the baseline and other commits at the tip --------------------------------------------

    def _measure_tip(self) -> None:
        """Measure the commit at the tip under the present setup: baseline, revert, a person's own.

        The first commit measured under a setup gets `baseline_trials`, which give the noise.
        """
        session = self._record.session()
        tip = self._record.tip()
        waiting = [e for e in session.experiments if e.state is State.PROPOSED and e.commit == tip]
        if waiting:
            number = waiting[0].number
        else:
            number = _next_number(session)
            is_first = not any(e.setup == self._parts.setup.key for e in session.experiments)
            files = self._record.editable_files(tip)
            self._append(
                Proposed(
                    number=number,
                    commit=tip,
                    parent=tip,
                    identity=self._record.identity(files),
                    proposer="baseline" if is_first else "human",
                    description="baseline" if is_first else self._record.subject(tip),
                ),
                commit=tip,
            )
        self._finish(number)

    def _finish_tip(self, experiment: Experiment) -> bool:
        """Run one trial of a commit that is the tip already, or give its verdict; True when done."""
        trials = self._trials(experiment)
        failed = [t for t in trials if t.result.outcome in (Outcome.CRASH, Outcome.INVALID)]
        if failed:
            result = failed[-1].result
            self._judge(
                experiment,
                Verdict.CRASH if result.outcome is Outcome.CRASH else Verdict.INVALID,
                Decision("discard", result.reason, explanation=result.detail),
            )
            raise WorkError(
                f"the code at the tip of the branch does not run: {result.reason}"
                + (f" ({result.detail})" if result.detail else ""),
                hint=f"look with `autoresearch show {experiment.number}`, try a repair with"
                " `autoresearch try`, commit it, then `autoresearch run`",
            )
        num_good = sum(t.result.ok for t in trials)
        needed = self._config.decision.baseline_trials if experiment.proposer == "baseline" else 1
        if num_good < needed:
            self._trial(experiment, audit=True)
            return False
        self._judge(experiment, Verdict.KEEP, Decision("keep", "baseline", num_trials=num_good))
        return True

    # -- proposals ----------------------------------------------------------------------------

    def _propose(self) -> None:
        """Wait for the next proposal and store it."""
        self._phase("propose")
        began = time.monotonic()
        self._ask()
        while not self._collect(timeout=0.2):
            self._check_stop()
        self._clock.add("propose", time.monotonic() - began)

    def _ask(self) -> None:
        """Ask for a proposal unless one is being prepared already."""
        if self._parts.ahead.is_busy:
            return
        self._parts.ahead.request(self._context())

    def _collect(self, timeout: float = 0.0) -> bool:
        """Store what the proposer has ready; False if there is nothing yet.

        Raises:
            ProposerUnavailableError: nothing can be had now.
        """
        try:
            proposal = self._parts.ahead.take(timeout)
        except EditFailedError as exc:
            number = self._store(exc.proposal)
            event = self._record.judge(
                number,
                Verdict.DISCARD,
                Decision("discard", exc.reason, explanation=exc.message),
                setup=self._parts.setup.key,
            )
            self._parts.emit(event)
            return True
        except ProposerUnavailableError as exc:
            if exc.usage.num_calls:
                self._append(Spent(usage=vars(exc.usage), reason=exc.message))
            raise
        except CancelledError:
            self._check_stop()
            return False
        if proposal is None:
            return False
        self._store(proposal)
        return True

    def _keep_last_answer(self) -> None:
        """Store a proposal that came while the session ended: it was paid for."""
        with contextlib.suppress(ProposerUnavailableError, _StopSeenError):
            self._collect()

    def _store(self, proposal: Proposal, number: int | None = None) -> int:
        """Record a proposal under a number of its own, before anything is done with it."""
        if number is None:
            number = _next_number(self._record.session())
        program = self._parts.run_directory.program
        text = program.read_bytes() if program.is_file() else b""
        event = self._record.propose(proposal, number, text)
        self._parts.emit(event)
        reach("proposal_stored")
        return number

    def _rebase(self, experiment: Experiment, incumbent: Experiment) -> bool:
        """Carry a proposal over to a tip that moved; False if it does not fit any more."""
        files = self._record.rebase(experiment, incumbent.commit)
        if files is None:
            self._append(Abandoned(number=experiment.number, reason="rebase_conflict"))
            return False
        self._store(
            Proposal(
                description=experiment.description,
                files=files,
                parent=incumbent.commit,
                proposer=experiment.proposer,
                hypothesis=experiment.hypothesis,
                expected_effect=experiment.expected_effect,
                theme=experiment.theme,
                note=experiment.note,
                parameters=experiment.parameters,
                usage=experiment.usage,
            ),
            experiment.number,
        )
        return True

    def _hand_edit(self) -> Proposal | None:
        """Return a person's edit of the working tree once it has been left alone for a minute."""
        files = self._record.hand_edit()
        if files is None:
            self._edit_seen = None
            return None
        identity = self._record.identity(files)
        session = self._record.session()
        if any(e.identity == identity for e in session.experiments):
            return None
        if self._edit_seen is None or self._edit_seen[0] != identity:
            self._edit_seen = (identity, time.monotonic())
            return None
        if time.monotonic() - self._edit_seen[1] < HAND_EDIT_SECONDS:
            return None
        return Proposal(
            description="hand edit",
            files=files,
            parent=self._record.tip(),
            proposer="human",
        )

    def _context(self) -> Context:
        session = self._record.session()
        tip = self._record.tip()
        program = self._parts.run_directory.program
        waiting = [e for e in session.experiments if e.state is State.PROPOSED]
        recent = [e for e in session.experiments if e.trials][-5:]
        usage = session.usage
        return Context(
            session=session,
            number=_next_number(session),
            parent=tip,
            files=self._record.editable_files(tip),
            program=program.read_text(encoding="utf-8", errors="replace")
            if program.is_file()
            else "",
            max_lines=self._config.task.max_lines,
            budget_seconds=self._config.trial.budget_seconds,
            hardware=self._parts.hardware,
            seconds_left=self._seconds_left(session),
            cost_left_usd=self._parts.limits.cost_left(usage.cost_usd or 0.0),
            in_flight=tuple(self._record.proposal(e.number) for e in waiting),
            tried={e.identity: e.number for e in session.experiments if e.identity},
            is_stalled=rule.is_plateau(session, self._config.decision),
            curves={e.number: self._record.curve(e.trials[0]) for e in recent},
            log_tails={
                e.number: self._record.log_tail(e.trials[-1])
                for e in recent
                if e.verdict is Verdict.CRASH
            },
        )

    # -- trials -------------------------------------------------------------------------------

    def _trial(self, experiment: Experiment, *, audit: bool = False) -> None:
        """Run and record one more trial of an experiment."""
        self._check_stop()
        session = self._record.session()
        trials = self._trials(experiment)
        index = len(experiment.trials)
        counted = sum(t.result.outcome is not Outcome.TAINTED for t in trials)
        spec = self._spec(experiment, session, counted, index, audit=audit)
        self._phase("trial", experiment.description, experiment.number)
        started_at = now()
        began = time.monotonic()
        result = self._parts.executor.run(
            spec, on_progress=self._on_progress(experiment), stop=self._parts.stop
        )
        self._account(result, time.monotonic() - began)
        self._check_stop()
        tainted = [t for t in trials[-MAX_TAINTED:] if t.result.outcome is Outcome.TAINTED]
        if result.outcome is Outcome.TAINTED and len(tainted) == MAX_TAINTED:
            result = replace(result, outcome=Outcome.CRASH)
        event = self._record.trial(
            experiment.number,
            index,
            result,
            setup=self._parts.setup.key,
            started_at=started_at,
            commit=experiment.commit,
        )
        self._parts.emit(event)
        reach("trial_recorded")

    def _spec(
        self, experiment: Experiment, session: Session, counted: int, index: int, *, audit: bool
    ) -> TrialSpec:
        config = self._config
        incumbent = self._incumbent(session)
        best = incumbent.val_bpb if incumbent is not None else None
        is_tip = experiment.commit == self._record.tip()
        return TrialSpec(
            files=self._record.files(experiment.commit),
            seed=rule.trial_seed(session.seed, counted),
            budget_seconds=config.trial.budget_seconds,
            audit_below=rule.keep_threshold(session, config.decision),
            audit=audit or is_tip or self._random.random() < config.judge.audit_share,
            suspicious_below=None if best is None else best * (1 - config.judge.suspicious_jump),
            label=f"{session.tag}/{experiment.number}-{index}",
            keep_weights=config.trial.save_weights != "none",
            keep_cache=is_tip,
        )

    def _on_progress(self, experiment: Experiment) -> Callable[[Progress], None]:
        def heard(progress: Progress) -> None:
            progress = replace(progress, number=experiment.number)
            self._parts.emit(progress)
            clock = time.monotonic()
            if clock - self._last_status >= 2.0:
                self._last_status = clock
                self._record.set_status(progress)
            self._prepare()

        return heard

    def _prepare(self) -> None:
        """Keep the next proposals coming while a trial runs."""
        if self._parts.ahead.depth == 0 or self._parts.stop.is_set():
            return
        session = self._record.session()
        if not session.kept and session.experiment(0).state is not State.JUDGED:
            return
        waiting = sum(e.state is State.PROPOSED for e in session.experiments)
        try:
            self._collect()
            if waiting <= self._parts.ahead.depth and self._limit_reached(ahead=True) is None:
                self._ask()
        except ProposerUnavailableError:
            return  # Asked again, and told, when the trial is over.

    def _trials(self, experiment: Experiment) -> list[Any]:
        return [
            t for t in experiment.trials if t.setup == self._parts.setup.key and not t.confirmation
        ]

    def _account(self, result: TrialResult, seconds: float) -> None:
        known = 0.0
        for kind, part in (
            ("startup", result.startup_seconds),
            ("train", result.train_seconds),
            ("judge", result.judge_seconds),
        ):
            self._clock.add(kind, part)
            known += part or 0.0
        self._clock.add("other", max(0.0, seconds - known))

    # -- limits -------------------------------------------------------------------------------

    def _limit_reached(self, *, ahead: bool = False) -> str | None:
        self._check_stop()
        session = self._record.session()
        limits = self._parts.limits
        waiting = [e for e in session.experiments if e.state is State.PROPOSED]
        is_idle = ahead or not waiting
        begun = self._record.experiments_since_start() if limits.experiments else 0
        if limits.experiments and is_idle and begun >= limits.experiments:
            return "experiments"
        left = self._seconds_left(session)
        if left is not None and left < self._trial_seconds(session):
            return "hours"
        cost = limits.cost_left(session.usage.cost_usd or 0.0)
        if cost is not None and cost <= 0 and not waiting:
            return "max_cost"
        return None

    def _seconds_left(self, session: Session) -> float | None:
        reserve = self._parts.reserve_seconds(session)
        return self._parts.limits.seconds_left(self._clock.elapsed, reserve)

    def _trial_seconds(self, session: Session) -> float:
        """Return what a trial takes, by the median of the last ones."""
        seconds = sorted(
            t.result.total_seconds
            for e in session.experiments[-9:]
            for t in e.trials
            if t.result.ok and t.result.total_seconds is not None
        )
        return seconds[len(seconds) // 2] if seconds else self._config.trial.budget_seconds

    def _check_stop(self) -> None:
        if self._parts.stop.is_set():
            raise _StopSeenError

    def _wait(self, seconds: float) -> None:
        self._phase("wait", f"{seconds:.0f} s")
        began = time.monotonic()
        self._parts.stop.wait(seconds)
        self._clock.add("wait", time.monotonic() - began)
        self._check_stop()

    # -- small things -------------------------------------------------------------------------

    def _incumbent(self, session: Session) -> Experiment | None:
        """Return the judged experiment at the tip with a score under this setup, if any."""
        tip = self._record.tip()
        for experiment in reversed(session.experiments):
            if (
                experiment.commit == tip
                and experiment.verdict is Verdict.KEEP
                and experiment.setup == self._parts.setup.key
            ):
                return experiment
        return None

    def _incumbent_of(self, session: Session) -> Experiment:
        found = self._incumbent(session)
        if found is None:
            raise PrerequisiteError(
                f"the tip of `{session.branch}` moved while an experiment ran",
                hint="run `autoresearch run` again: it measures the new tip first",
                kind="git",
            )
        return found

    def _append(self, event: Event, commit: str | None = None) -> None:
        self._record.append(event, commit=commit)
        self._parts.emit(event)

    def _phase(self, name: str, detail: str = "", number: int | None = None) -> None:
        phase = Phase(name=name, detail=detail, number=number)
        self._record.set_status(phase)
        self._parts.emit(phase)


def _next_number(session: Session) -> int:
    return max((e.number for e in session.experiments), default=-1) + 1


__all__ = ["Executor", "Loop", "Parts", "TrialJudged", "VerdictGiven"]
