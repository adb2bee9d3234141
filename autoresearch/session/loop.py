"""The state machine of a session: propose, try, decide, record, until a limit is reached.

Every step is taken from the record and ends in the record, so a loop that is killed and started again continues
where the last durable event left it. It takes its parts as arguments and knows no screen, no model and no
provider.

Trade-offs: one slot, so trials run one after another in this thread; only proposing runs at the same time.
"""

import time
from datetime import datetime

from autoresearch.decision import pace, rule
from autoresearch.decision.belief import believe, measure_noise
from autoresearch.decision.scores import find
from autoresearch.decision.throughput import speed_of
from autoresearch.errors import WorkError
from autoresearch.events import Phase, Reopened, SessionEnded
from autoresearch.machine.hardware import who_else
from autoresearch.proposer.base import CostLimitError, ProposerUnavailableError
from autoresearch.rundir import control
from autoresearch.session.context import Parts, StopSeenError, next_number, trial_seconds
from autoresearch.session.housekeeping import Upkeep
from autoresearch.session.notify import ended
from autoresearch.session.proposals import NO_IDEAS, Ideas, take_baseline
from autoresearch.session.trials import Trials, label_of
from autoresearch.types import (
    Decision,
    Experiment,
    Outcome,
    Proposal,
    Purpose,
    Reason,
    Session,
    TrialResult,
    Verdict,
)
from autoresearch.util.killpoints import reach

MACHINE_FAULTS = frozenset({"device", "feeder", "judge"})
"""Reasons of a trial that failed by no doing of its code: its GPU, the lab's feeder, a judging process."""

_MACHINE = "the machine's speed"
_REQUESTS: dict[control.Request | None, str] = {
    control.Request.PAUSE: "pausing after this trial; `autoresearch resume` takes it back",
    control.Request.STOP: "stopping after this trial",
}
"""What is shown while a trial runs on."""
SLOW_SHARE = 0.5
"""Part of a trial's time; a proposer that takes longer continues while its last proposal still waits."""


class Loop:
    """Runs one session until a limit, a stop, or a failure of the lab itself."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._record = parts.record
        self._config = parts.config
        self._stop = parts.stop
        self._ideas = Ideas(parts)
        self._trials = Trials(parts, self._check_requests, self._prepare)
        self._upkeep = Upkeep(parts.record, parts.config)
        self._asked: control.Request | None = None
        """The request that was shown last."""

    def run(self) -> str:
        """Run to the end and return the reason it ended, as in `SessionEnded.reason`.

        Raises:
            WorkError: the baseline itself does not run.
            AutoresearchError: the lab can no longer record or restore.
        """
        reason, detail = "error", ""
        self._upkeep.begin()
        try:
            reason, detail = self._run()
        except StopSeenError:
            reason = self._stop.reason
        except WorkError as exc:
            detail = exc.message
            raise
        finally:
            self._parts.ahead.cancel()
            self._ideas.keep_last_answer()
            self._parts.tell_alerts()
            control.clear(self._stop.run_directory)
            self._record.append(
                SessionEnded(
                    reason=reason,
                    detail=detail,
                    wall_seconds=round(self._stop.clock.elapsed, 3),
                    busy={k: round(v, 3) for k, v in self._stop.clock.busy.items()},
                )
            )
            reach("session_ended")
            self._upkeep.tell("end", ended(self._record.session(), reason, detail))
            self._upkeep.end()
        return reason

    def _run(self) -> tuple[str, str]:
        reason, detail = self._search()
        if self._parts.confirm is not None:
            self._parts.phase("confirm")
            self._parts.confirm(self._record.session())
            self._stop.check()
        return reason, detail

    def _search(self) -> tuple[str, str]:
        """Try one idea after another until a limit is reached or no more ideas can be had."""
        if self._parts.incumbent(self._record.session()) is None:
            self._measure_tip()
        while (reason := self._limit_reached()) is None:
            self._check_requests()
            self._parts.tell_alerts()
            try:
                self._step()
            except CostLimitError as exc:
                return "max_cost", exc.message
            except ProposerUnavailableError as exc:
                if exc.retry_seconds is None:
                    return "proposer", exc.message
                self._record.alert(exc.message, exc.hint or "", about=NO_IDEAS)
                self._wait(exc.retry_seconds)
        return reason, ""

    # -- one step -----------------------------------------------------------------------------

    def _step(self) -> None:
        session = self._reopened(self._record.session())
        waiting = session.open
        incumbent = self._parts.incumbent(session)
        if incumbent is None:
            self._measure_tip()
        elif waiting:
            self._finish(waiting[0].number)
        elif rule.is_sentinel_due(session):
            self._trials.run(incumbent, Purpose.INCUMBENT)
        elif not self._ideas.take_hand_edit():
            self._ideas.propose()

    def _finish(self, number: int) -> None:
        """Bring one proposed experiment to its verdict, however far it is.

        Where the branch moved meanwhile, by a commit of the user or a revert, it waits until the new tip is measured;
        where the machine is slow, until it is not, or its pace is the new one.
        """
        while True:
            session = self._record.session()
            experiment = session.experiment(number)
            if experiment.commit == self._record.tip():
                if self._finish_tip(experiment):
                    return
                continue
            incumbent = self._parts.incumbent(session)
            if incumbent is None:
                return
            if experiment.parent != incumbent.commit:
                if not self._ideas.rebase(experiment, incumbent.commit):
                    return
                continue
            step = pace.next_step(experiment, incumbent, self._parts.setup.key)
            if step.what not in ("try", "final"):
                self._ask_incumbent(incumbent, step)
                return
            self._tell_pace_known(incumbent)
            if step.what == "final":
                self._judge_failed(experiment, experiment.trials[-1].result)
                return
            trials = [
                t
                for t in self._trials.counted(experiment)
                if t.result.outcome is not Outcome.TAINTED
            ]
            if not trials:
                self._trials.run(experiment, Purpose.CANDIDATE)
                continue
            last = trials[-1].result
            if last.outcome is not Outcome.OK:
                self._judge_failed(experiment, last)
                self._check_machine()
                return
            if rule.is_again_due(experiment, self._parts.setup.key):
                self._trials.run(experiment, Purpose.RETEST)
                continue
            decision = rule.decide(experiment, incumbent, session, self._config.decision)
            reach("decided")
            if rule.is_incumbent_due(decision, experiment, incumbent, session):
                self._trials.run(incumbent, Purpose.INCUMBENT)
                continue
            is_audited = all(t.result.num_audited for t in trials)
            if decision.action == "retest" or (decision.action == "keep" and not is_audited):
                self._trials.run(experiment, Purpose.RETEST)
                continue
            key, jump = self._parts.setup.key, self._config.judge.suspicious_jump
            is_kept = decision.action == "keep" and not experiment.is_approved
            if is_kept and rule.is_implausible(decision, incumbent, key, jump):
                alarm = rule.alarm_of(experiment, key)
                if alarm is None:
                    self._trials.run(experiment, Purpose.ALARM)
                    continue
                held = rule.held(decision, alarm)
                self._judge(experiment, Verdict.HELD, held, Reason.IMPLAUSIBLE)
                return
            self._judge(experiment, Verdict(decision.action), decision)
            return

    def _reopened(self, session: Session) -> Session:
        """Open again the discards that the machine's move may have wronged, and return the session with them."""
        for number, doubt in rule.due_again(session).items():
            reopened = Reopened(number=number, p_real=doubt.p_real, shift=doubt.shift, sd=doubt.sd)
            self._record.append(reopened)
        return self._record.session()

    def _ask_incumbent(self, incumbent: Experiment, step: pace.Step) -> None:
        """Run the incumbent once to tell why a candidate was slow; wait first where it is the machine."""
        if step.what == "wait":
            self._tell_slow(incumbent, step)
            seconds = step.pause * self._config.trial.budget_seconds
            session = self._record.session()
            left = self._stop.seconds_left(session)
            if left is not None:
                usual = trial_seconds(session, self._config.trial.budget_seconds)
                seconds = min(seconds, max(left - usual, 0.0))
            self._wait(seconds, "the machine is slow, ")
            if self._limit_reached() is not None:
                return
        purpose = Purpose.PACE if step.what == "measure" else Purpose.CHECK
        self._trials.run(incumbent, purpose, step.beside)

    def _tell_slow(self, incumbent: Experiment, step: pace.Step) -> None:
        """Report that the machine is slow, once until it is over."""
        usual = speed_of(incumbent, self._parts.setup.key)
        now = step.tokens_per_second
        how_much = f"{usual / now:.0f} times " if usual and now else ""
        told = [a for a in self._record.session().alerts if a.about == _MACHINE]
        if told and not told[-1].is_over:
            return
        whom = who_else()
        text = (
            f"the machine is {how_much}slower than when #{incumbent.number} was measured: waiting since"
            f" {datetime.now().astimezone():%H:%M}; {f'busy with {whom}' if whom else 'see what else runs'}"
        )
        if self._record.tell(_MACHINE, text, "autoresearch doctor"):
            self._upkeep.tell("wait", text)

    def _tell_pace_known(self, incumbent: Experiment) -> None:
        """Report that the wait for the machine is over, where there was one."""
        speed = speed_of(incumbent, self._parts.setup.key) or 0.0
        text = f"#{incumbent.number} runs at {speed:,.0f} tokens/s, and the session continues at that pace"
        self._record.tell(_MACHINE, text, is_over=True)

    def _check_machine(self) -> None:
        """End the session where not the ideas fail but what they run on.

        Raises:
            WorkError: two experiments in a row crashed for a reason of the lab's own.
        """
        tried = [
            e for e in self._record.session().experiments if e.verdict is not None and e.trials
        ][-2:]
        if len(tried) == 2 and all(e.reason in MACHINE_FAULTS for e in tried):
            last = tried[-1]
            detail = last.decision.explanation if last.decision else ""
            raise WorkError(
                "too many trials failed in a row" + (f": {detail}" if detail else ""),
                hint="look with `autoresearch doctor`, then continue with `autoresearch run`",
            )

    def _judge_failed(self, experiment: Experiment, result: TrialResult) -> None:
        """Give the verdict on an experiment that this trial ended: it broke the rules, crashed or was too slow."""
        verdict = Verdict.INVALID if result.outcome is Outcome.INVALID else Verdict.CRASH
        decision = Decision("discard", result.reason, explanation=result.detail)
        self._judge(experiment, verdict, decision)

    def _judge(
        self, experiment: Experiment, verdict: Verdict, decision: Decision, reason: str = ""
    ) -> None:
        self._parts.phase("decide", number=experiment.number)
        self._record.judge(
            experiment.number,
            verdict,
            reason or decision.reason,
            decision,
            self._parts.setup.key,
        )
        if verdict is Verdict.KEEP:
            self._parts.keep_caches(label_of(experiment, self._record.tag))
        self._upkeep.after_verdict(experiment.number)
        reach("exported")

    # -- the baseline and other commits at the tip --------------------------------------------

    def _measure_tip(self) -> None:
        """Measure the commit at the tip under the present setup: baseline, revert, a commit of the user.

        The first commit measured under a setup gets `baseline_trials`, which give the noise. A baseline that failed, or
        that a commit of the user overtook, is no baseline: the present tip takes its number. While nothing is kept, an
        edit that is not committed is the baseline.
        """
        if all(e.verdict is not Verdict.KEEP for e in self._record.session().experiments):
            take_baseline(self._record)
        session = self._record.session()
        tip = self._record.sync_tip()
        waiting = [e for e in session.open if e.commit == tip]
        if waiting:
            number = waiting[0].number
        elif (baseline := find(session, 0)) is not None and baseline.verdict is not Verdict.KEEP:
            number = 0
            self._record.rebase(number, {}, tip)
        else:
            number = next_number(session)
            is_first = not any(
                e.setup == self._parts.setup.key and e.verdict is Verdict.KEEP
                for e in session.experiments
            )
            self._ideas.store(
                Proposal(
                    description="baseline" if is_first else self._record.subject(tip),
                    files={},
                    parent=tip,
                    proposer="baseline" if is_first else "human",
                ),
                number,
            )
        self._finish(number)

    def _finish_tip(self, experiment: Experiment) -> bool:
        """Run one trial of a commit that is the tip already, or give its verdict; True when done."""
        trials = self._trials.counted(experiment)
        failed = [t for t in trials if t.result.outcome in (Outcome.CRASH, Outcome.INVALID)]
        if failed:
            result = failed[-1].result
            self._judge_failed(experiment, result)
            raise WorkError(
                f"the code at the tip of the branch does not run: {result.reason}"
                + (f" ({result.detail})" if result.detail else ""),
                hint=f"look with `autoresearch show {experiment.number}`, try a repair with"
                " `autoresearch try`, commit it, then `autoresearch run`",
            )
        num_good = sum(t.result.ok for t in trials)
        needed = self._config.decision.baseline_trials if experiment.proposer == "baseline" else 1
        if num_good < needed:
            self._trials.run(experiment, Purpose.INCUMBENT)
            return False
        session = self._record.session()
        best, known = find(session, session.best), believe(session).level(experiment.commit)
        level = session.metric.sign * known[0] if known else None
        decision = Decision("keep", "baseline", num_trials=num_good, level=level)
        self._judge(experiment, Verdict.KEEP, decision)
        is_revert = "Autoresearch-Reverts" in self._record.repository.message(experiment.commit)
        if best is not None and experiment.proposer == "human" and not is_revert:
            self._tell_worse(self._record.session().experiment(experiment.number), best)
        return True

    def _tell_worse(self, experiment: Experiment, best: Experiment) -> None:
        """Alert the user whose commit is measured as clearly worse than the best before it."""
        if experiment.score is None or best.score is None or best.setup != experiment.setup:
            return
        session = self._record.session()
        delta, noise = experiment.score - best.score, measure_noise(session)
        if session.metric.sign * delta > 3 * noise.sd:
            text = f"commit {experiment.commit[:7]} made the branch worse: #{experiment.number} has"
            text += (
                f" {delta:+.6f} against #{best.number}, trials of one code differ by {noise.sd:.6f}"
            )
            self._record.alert(text, f"autoresearch revert {experiment.number}")

    def _check_requests(self) -> None:
        """Act on requests between two trials: wait while paused, leave when asked to stop."""
        began = time.monotonic()
        self._stop.wait_while_paused(self._on_pause)
        self._stop.clock.add("wait", time.monotonic() - began)
        self._stop.check()

    def _show_request(self) -> None:
        """Show what another terminal asks for while a trial runs, once."""
        asked = control.poll(self._stop.run_directory)
        if asked is not self._asked:
            self._asked = asked
            self._parts.emit(Phase(name="request", detail=_REQUESTS.get(asked, "")))

    def _on_pause(self) -> None:
        self._asked = control.Request.PAUSE
        self._parts.emit(Phase(name="request", detail="`autoresearch resume` continues"))
        self._parts.phase("wait", "paused")
        self._upkeep.tell("pause", "paused; `autoresearch resume`")

    def _prepare(self, number: int) -> None:
        """Act on requests and keep the next proposals coming while a trial of experiment `number` runs."""
        is_over = self._stop.is_now()
        self._show_request()
        self._parts.tell_alerts()
        if self._parts.ahead.depth == 0 or is_over:
            return
        if self._parts.incumbent(self._record.session()) is None:
            return
        try:
            self._ideas.collect()
        except ProposerUnavailableError:
            return  # Reported after the trial if the problem persists.
        session = self._record.session()
        waiting = sum(e.number != number for e in session.open)
        if (
            not self._ideas.is_silent
            and waiting < self._depth(session)
            and self._limit_reached(ahead=True) is None
        ):
            self._ideas.ask()

    def _depth(self, session: Session) -> int:
        """Return how many proposals may wait: one more where an answer takes so long that the device would wait too."""
        usual = trial_seconds(session, self._config.trial.budget_seconds)
        is_slow = self._parts.ahead.answer_seconds > SLOW_SHARE * usual
        return self._parts.ahead.depth + is_slow

    def _limit_reached(self, *, ahead: bool = False) -> str | None:
        budget = self._config.trial.budget_seconds
        return self._stop.limit_reached(self._record.session(), budget, ahead=ahead)

    def _wait(self, seconds: float, why: str = "") -> None:
        self._parts.phase("wait", f"{why}{seconds:.0f} s")
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            began = time.monotonic()
            self._stop.event.wait(min(left, control.LOOK_SECONDS))
            self._stop.clock.add("wait", time.monotonic() - began)
            self._check_requests()
