"""The loop over real git: baseline, keep, discard, crash, invalid, retry, resume, people."""

import dataclasses
import itertools
import math
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stand_ins import TRAIN, FormulaExecutor, ListProposer, variant

from autoresearch.decision import pace
from autoresearch.decision.pace import MAX_TAINTED
from autoresearch.errors import PrerequisiteError, WorkError
from autoresearch.events import Phase, Progress
from autoresearch.paths import RunDirectory
from autoresearch.proposer import base
from autoresearch.proposer.base import (
    CancelledError,
    Context,
    CostLimitError,
    EditFailedError,
    ProposerUnavailableError,
)
from autoresearch.proposer.prompt import Limits as PromptLimits
from autoresearch.proposer.prompt import build_prompt
from autoresearch.record import revert
from autoresearch.rundir import control
from autoresearch.session import trials
from autoresearch.session.context import Limits
from autoresearch.types import (
    Outcome,
    Proposal,
    Purpose,
    State,
    TrialResult,
    TrialSpec,
    Usage,
    Verdict,
)
from autoresearch.ui.live.state import LiveState
from autoresearch.ui.pages import overview
from autoresearch.ui.pages.rows import verdict_text
from autoresearch.ui.summary import summarize

TICK = Progress(number=0, label="", phase="train", seconds=1, budget_seconds=2, num_tokens=500)


def wait_for_the_proposer() -> None:
    """Wait until the question that is out, if there is one, is answered."""
    for thread in threading.enumerate():
        if thread.name == "proposer":
            thread.join(30)


def git(night: Any, *args: str) -> str:
    return subprocess.run(
        ["git", *args], cwd=night.root, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_first_run_measures_the_baseline_on_different_seeds(night: Any) -> None:
    assert night.run([]) == "proposer"
    baseline = night.session.experiment(0)
    assert baseline.verdict is Verdict.KEEP
    seeds = [t.result.seed for t in baseline.trials]
    assert len(set(seeds)) == len(seeds) == 3


def test_a_gain_is_kept_and_a_loss_is_not(night: Any) -> None:
    night.run([variant(LR=2.5), variant(LR=0.1)], experiments=2)
    session = night.session
    assert [e.verdict for e in session.experiments[1:]] == [Verdict.KEEP, Verdict.DISCARD]
    assert session.best == 1
    assert git(night, "rev-parse", "autoresearch/t") == session.experiment(1).commit
    assert session.experiment(1).decision is not None
    assert session.experiment(1).decision.p_real > 0.9
    assert "LR = 2.5" in (night.root / "train.py").read_text()


def test_a_machine_that_got_faster_is_no_gain(night: Any, monkeypatch: Any) -> None:
    class Shared(FormulaExecutor):
        """A machine that others use until the baseline is measured."""

        def run(self, spec: TrialSpec, **more: Any) -> TrialResult:
            result = super().run(spec, **more)
            if len(self.specs) > 3:
                return result
            assert result.score is not None
            return dataclasses.replace(result, score=result.score + 0.05, tokens_per_second=100.0)

    seconds = itertools.count()
    monkeypatch.setattr(trials, "now", lambda: f"2026-01-01T00:00:{next(seconds):02d}Z")
    night.executor = Shared()
    night.run([variant(WIDTH=65)], experiments=1)
    session = night.session
    assert session.experiment(1).verdict is Verdict.DISCARD
    assert len(session.experiment(0).trials) == 4
    # Where the speeds are alike nothing is run again.
    night.run([variant(LR=2.5)], experiments=1)
    assert night.session.experiment(2).verdict is Verdict.KEEP
    assert len(night.session.experiment(0).trials) == 4


def test_every_candidate_stays_reachable(night: Any) -> None:
    night.run([variant(LR=0.1), variant(LR=-1), variant(WIDTH=0)], experiments=3)
    git(night, "reflog", "expire", "--expire=now", "--all")
    git(night, "gc", "--prune=now", "--quiet")
    for experiment in night.session.experiments[1:]:
        assert "LR" in git(night, "show", f"{experiment.commit}:train.py")


def test_candidates_share_the_seed_of_the_baseline(night: Any) -> None:
    night.run([variant(LR=0.5)], experiments=1)
    session = night.session
    assert (
        session.experiment(1).trials[0].result.seed == session.experiment(0).trials[0].result.seed
    )


def test_crashes_and_broken_rules_are_verdicts(night: Any) -> None:
    night.run([variant(LR=-1), variant(WIDTH=0)], experiments=2)
    first, second = night.session.experiments[1:]
    assert (first.verdict, first.reason) == (Verdict.CRASH, "nan")
    assert (second.verdict, second.reason) == (Verdict.INVALID, "claim_mismatch")
    assert first.score is None


def test_a_baseline_that_does_not_run_ends_the_session(night: Any) -> None:
    (night.root / "train.py").write_text(variant(LR=-1))
    git(night, "commit", "-qam", "break it")
    with pytest.raises(WorkError, match="does not run: nan"):
        night.run([])
    assert night.session.experiment(0).verdict is Verdict.CRASH


def test_an_answer_that_gives_no_change_is_a_discard_without_a_trial(night: Any) -> None:
    failed = Proposal(
        description="nonsense",
        files={},
        parent="",
        proposer="llm",
        usage=Usage(num_calls=3, cost_usd=0.02),
    )
    with night.record as record:
        failed = dataclasses.replace(failed, parent=record.tip())
    night.run([EditFailedError("no match", reason="edit_failed", proposal=failed)], experiments=1)
    experiment = night.session.experiment(1)
    assert (experiment.verdict, experiment.reason) == (Verdict.DISCARD, "edit_failed")
    assert not experiment.trials
    assert night.session.usage.cost_usd == pytest.approx(0.02)


def test_an_outage_is_waited_for_and_told(night: Any) -> None:
    usage = Usage(num_calls=1, tokens_in=10, cost_usd=0.01)
    answers = [
        ProposerUnavailableError("429", retry_seconds=0.01, usage=usage),
        variant(LR=2.0),
    ]
    night.run(answers, experiments=1)
    session = night.session
    assert session.experiment(1).verdict is Verdict.KEEP
    assert session.other_usage.num_calls == 1
    assert any("429" in alert.text for alert in session.alerts)
    assert not any("429" in alert.text for alert in summarize(session).alerts), "it is over"


def test_a_program_of_which_a_prompt_holds_a_part_is_told(night: Any, monkeypatch: Any) -> None:
    given = ListProposer.propose

    def propose(self: ListProposer, context: Context, stop: threading.Event) -> Proposal:
        prompt = build_prompt(context, PromptLimits(3000)).text.encode()
        return dataclasses.replace(given(self, context, stop), attachments={"prompt.md": prompt})

    def is_told() -> bool:
        return any("program.md is too long" in a.text for a in summarize(night.session).alerts)

    monkeypatch.setattr(ListProposer, "propose", propose)
    (night.root / "program.md").write_text("a word " * 200_000)
    night.run([variant(LR=2.0), variant(LR=2.1)], experiments=2)
    assert is_told()
    assert sum("program.md" in a.about for a in night.session.alerts) == 1
    (night.root / "program.md").write_text("a word")
    night.run([variant(LR=2.2)], experiments=1)
    assert not is_told()


def test_a_proposer_that_breaks_does_not_end_the_night(night: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(base, "PAUSE_SECONDS", 0.01)
    answers = [OSError(30, "Read-only file system"), variant(LR=2.0)]
    assert night.run(answers, experiments=1) == "experiments"
    assert night.session.experiment(1).verdict is Verdict.KEEP
    told = [alert.text for alert in night.session.alerts]
    assert any("a list failed: OSError: [Errno 30] Read-only" in text for text in told)


def test_an_interrupt_of_the_proposer_still_ends_the_run(night: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        night.run([KeyboardInterrupt()])


def test_a_stopped_trial_has_no_verdict_and_is_run_again(night: Any) -> None:
    def stop_at_the_fourth(spec: TrialSpec) -> None:
        if len(night.executor.specs) == 4:
            night.stop.set()

    night.executor.before_trial = stop_at_the_fourth
    assert night.run([variant(LR=2.0)], experiments=1) == "interrupted"
    assert night.session.experiment(1).state is State.PROPOSED
    night.stop.clear()
    night.executor.before_trial = lambda _: None
    night.run([], experiments=1)
    assert night.session.experiment(1).verdict is Verdict.KEEP
    assert len(night.session.experiments) == 2, "nothing new was proposed before the old was done"


def test_a_tainted_trial_is_repeated_with_the_same_seed(night: Any) -> None:
    real = night.executor.run
    taints = iter([True])

    def sleepy(spec: TrialSpec, **kwargs: Any) -> Any:
        result = real(spec, **kwargs)
        if len(night.executor.specs) > 3 and next(taints, False):
            return dataclasses.replace(result, outcome=Outcome.TAINTED, reason="suspended")
        return result

    night.executor.run = sleepy
    night.run([variant(LR=2.0)], experiments=1)
    trials = night.session.experiment(1).trials
    assert [t.result.outcome for t in trials] == [Outcome.TAINTED, Outcome.OK]
    assert trials[0].result.seed == trials[1].result.seed


def test_a_machine_that_fails_ends_the_session_not_one_idea_after_another(night: Any) -> None:
    real = night.executor.run

    def broken(spec: TrialSpec, **kwargs: Any) -> Any:
        result = real(spec, **kwargs)
        if len(night.executor.specs) <= 3:
            return result
        words = "CUDA cannot be used"
        return dataclasses.replace(
            result, outcome=Outcome.TAINTED, reason="device", detail=words, score=None
        )

    nothing = Proposal(
        description="a useless answer", files={}, parent=night.session.tip, proposer="llm"
    )
    useless = EditFailedError("no match", reason="edit_failed", proposal=nothing)
    night.executor.run = broken
    with pytest.raises(WorkError, match="too many trials failed in a row: CUDA cannot be used"):
        night.run([variant(LR=2.0), useless, *(variant(LR=2.1 + n / 10) for n in range(4))])
    assert [e.verdict for e in night.session.experiments[1:]] == [
        Verdict.CRASH,
        Verdict.DISCARD,
        Verdict.CRASH,
    ]
    assert [len(e.trials) for e in night.session.experiments[1:]] == [MAX_TAINTED, 0, MAX_TAINTED]
    assert night.session.stop_reason == "error"


def test_the_limit_of_experiments_counts_new_ones(night: Any) -> None:
    assert night.run([variant(LR=0.5), variant(LR=0.6)], experiments=1) == "experiments"
    assert len(night.session.experiments) == 2
    assert night.run([variant(LR=0.7), variant(LR=0.8)], experiments=1) == "experiments"
    assert len(night.session.experiments) == 3


def test_a_commit_of_a_person_is_measured_before_anything_is_proposed(night: Any) -> None:
    night.run([variant(LR=2.0)], experiments=1)
    (night.root / "train.py").write_text(variant(LR=2.5))
    git(night, "commit", "-qam", "my own idea")
    night.run([variant(LR=2.9)], experiments=1)
    own, after = night.session.experiments[2:]
    assert (own.proposer, own.description) == ("human", "my own idea")
    assert own.verdict is Verdict.KEEP
    assert after.parent == own.commit


def test_another_setup_gets_a_baseline_of_its_own(night: Any) -> None:
    night.run([variant(LR=2.0)], experiments=1)
    other = dataclasses.replace(night.session.setup, gpu="another")
    night.run([variant(LR=2.5)], experiments=1, setup=other)
    again = night.session.experiment(2)
    assert again.proposer == "baseline"
    assert sum(t.setup == other.key for t in again.trials) == 3
    assert all(t.setup == other.key for t in night.session.experiment(3).trials)


def test_what_a_trial_takes_is_told_by_those_of_the_present_setup(night: Any) -> None:
    night.run([variant(LR=2.0)], experiments=1)
    real, seconds = night.executor.run, 900.0
    night.executor.run = lambda spec, **kw: dataclasses.replace(
        real(spec, **kw), total_seconds=seconds
    )
    other = dataclasses.replace(night.session.setup, gpu="another")
    night.run([], setup=other)
    assert night.session.trial_seconds == seconds
    long = dataclasses.replace(night.session.experiment(2).trials[0].result, total_seconds=5000.0)
    with night.record as record:
        for _ in range(4):
            at = "2026-11-21T00:00:00Z"
            record.record_trial(2, long, setup=other.key, started_at=at, confirmation="longer/a")
    assert night.session.trial_seconds == seconds


def test_judging_uses_caches_only_of_code_without_kept_experiments(night: Any) -> None:
    """After a change of setup the code at the tip is measured anew, and candidates may have written it."""
    night.run([variant(LR=0.1), variant(LR=2.0)], experiments=2)
    kept = night.session.experiment(2)
    assert kept.verdict is Verdict.KEEP
    purposes = [spec.purpose for spec in night.executor.specs]
    assert purposes[:3] == [Purpose.BASELINE] * 3
    assert Purpose.BASELINE not in purposes[3:]
    num_before = len(purposes)
    other = dataclasses.replace(night.session.setup, gpu="another")
    night.run([], setup=other)
    assert [s.purpose for s in night.executor.specs[num_before:]] == [Purpose.INCUMBENT] * 3
    assert [t.purpose for t in kept.trials][:1] == [Purpose.CANDIDATE]


def test_a_proposal_made_ahead_is_rebased_when_the_candidate_is_kept(night: Any) -> None:
    text = TRAIN.replace("# a script", "# a different script")
    night.run([variant(LR=2.5), text, variant(LR=0.1)], experiments=2, ahead=1)
    first, second = night.session.experiments[1:3]
    assert first.verdict is Verdict.KEEP
    assert second.parent == first.commit
    rebased = git(night, "show", f"{second.commit}:train.py")
    assert "LR = 2.5" in rebased
    assert "# a different script" in rebased


def test_a_proposal_that_cannot_be_rebased_is_abandoned(night: Any) -> None:
    night.run([variant(LR=2.5), variant(LR=2.6), variant(LR=2.7)], experiments=2, ahead=1)
    abandoned = [e for e in night.session.experiments if e.state is State.ABANDONED]
    assert [e.reason for e in abandoned] == ["rebase_conflict"]


def test_two_runs_in_one_directory_are_refused(night: Any) -> None:
    with (
        night.record as record,
        record.presence.lock(),
        pytest.raises(Exception, match="process") as caught,
    ):
        night.run([])
    assert isinstance(caught.value, PrerequisiteError | WorkError)


def test_program_md_is_read_for_every_proposal(night: Any) -> None:
    def edit(spec: TrialSpec) -> None:
        (night.root / "program.md").write_text(f"after trial {len(night.executor.specs)}\n")

    night.executor.before_trial = edit
    night.run([variant(LR=0.5), variant(LR=0.6)], experiments=2)
    programs = [context.program for context in night.proposer.history]
    assert programs == ["after trial 3\n", "after trial 4\n"]


def test_a_trial_much_slower_than_its_code_explains_is_repeated_once(
    night: Any, monkeypatch: Any
) -> None:
    real = night.executor.run

    def slow(spec: TrialSpec, **kwargs: Any) -> Any:
        result = real(spec, **kwargs)
        late = len(night.executor.specs) > 3
        return dataclasses.replace(result, tokens_per_second=300.0 if late else 500.0)

    seconds = itertools.count()
    monkeypatch.setattr(trials, "now", lambda: f"2026-01-01T00:00:{next(seconds):02d}Z")
    night.executor.run = slow
    night.run([variant(LR=2.0)], experiments=1)
    session = night.session
    reasons = [t.result.reason for t in session.experiment(1).trials]
    assert reasons == ["contention", ""]
    assert len(session.experiment(0).trials) == 4, "the incumbent too is run on the slower machine"
    assert session.experiment(1).verdict is Verdict.KEEP


class Machine(FormulaExecutor):
    """A machine of changing speed: `share(number of the trial, text)` of 500 tokens/s; less of it trains worse."""

    def __init__(self, share: Callable[[int, str], float]) -> None:
        super().__init__()
        self.share = share

    def run(self, spec: TrialSpec, *, on_progress: Any, stop: Any) -> TrialResult:
        share = self.share(len(self.specs) + 1, spec.files["train.py"].decode())
        slower = dataclasses.replace(TICK, num_tokens=int(500 * share))
        result = super().run(spec, on_progress=lambda _: on_progress(slower), stop=stop)
        score = None if result.score is None else result.score + 0.1 * (1 - share)
        return dataclasses.replace(
            result, score=score, claimed_score=score, tokens_per_second=500 * share
        )


def run_slow(
    night: Any, monkeypatch: Any, share: Callable[[int, str], float], num: int = 3
) -> dict[int, list[str]]:
    """Run a session without pauses on such a machine; return how each trial of an experiment ended."""
    monkeypatch.setattr(pace, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr("autoresearch.session.loop.who_else", lambda: "ollama (7)")
    seconds = itertools.count()
    monkeypatch.setattr(trials, "now", lambda: f"2026-01-01T00:00:{next(seconds):02d}Z")
    night.executor = Machine(share)
    night.run([variant(LR=2.0 + n / 5) for n in range(num)], experiments=num)
    return {
        e.number: [t.result.reason or t.result.outcome.value for t in e.trials]
        for e in night.session.experiments
    }


def told_of_the_machine(night: Any) -> list[tuple[str, bool]]:
    return [(a.text, a.is_over) for a in night.session.alerts if a.about == "the machine's speed"]


def test_ideas_outlast_a_machine_that_is_slow_for_a_while(night: Any, monkeypatch: Any) -> None:
    ended = run_slow(night, monkeypatch, lambda n, _: 1 / 8 if 4 <= n <= 6 else 1.0)
    session = night.session
    assert not [e for e in session.experiments if e.reason == "slow"]
    assert ended[0] == ["ok", "ok", "ok", "slow", "slow", "ok"]
    assert ended[1] == ["slow", "ok"]
    assert session.experiment(1).verdict is Verdict.KEEP
    (began, is_over), (_, is_over_later) = told_of_the_machine(night)
    said = r"the machine is 8 times slower than when #0 was measured: waiting since \d\d:\d\d; busy with ollama \(7\)"
    assert re.fullmatch(said, began)
    assert (is_over, is_over_later) == (False, True)
    assert not [a for a in summarize(session).alerts if a.about]


def test_a_machine_that_stays_slow_gives_the_new_pace(night: Any, monkeypatch: Any) -> None:
    ended = run_slow(night, monkeypatch, lambda n, _: 1 / 8 if n >= 4 else 1.0)
    session = night.session
    assert ended[0] == ["ok"] * 3 + ["slow"] * 3 + ["ok"] * 3
    assert ended[1][:2] == ["slow", "ok"]
    assert all("slow" not in ended[number] for number in (2, 3))
    assert [e.verdict for e in session.experiments if e.state is not State.JUDGED] == []
    # Worse than the baseline was at its old pace, and better than it is at the new one.
    assert session.experiment(1).verdict is Verdict.KEEP
    assert [is_over for _, is_over in told_of_the_machine(night)] == [False, True]


def test_slow_candidates_are_stopped_and_the_incumbent_asked_once(
    night: Any, monkeypatch: Any
) -> None:
    ended = run_slow(night, monkeypatch, lambda _, text: 1.0 if "LR = 1.0" in text else 1 / 8)
    first, *others = night.session.experiments[1:]
    for experiment in (first, *others):
        assert verdict_text(experiment) == "stopped: too slow"
        assert ended[experiment.number] == ["slow"]
    assert ended[0] == ["ok"] * 4, "asked for the first, and that answers for the next"
    assert night.session.best == 0
    assert not told_of_the_machine(night)
    summary = summarize(night.session)
    assert summary.alerts[0].text.startswith("3 of the last 3 experiments were stopped")
    (row,) = overview._failures(summary)
    assert "3 stopped: too slow" in row.plain
    assert "crash" not in row.plain
    assert LiveState(night.session).num_by_verdict == {"slow": 3}


def test_a_check_answers_for_a_few_experiments_only(night: Any, monkeypatch: Any) -> None:
    num = 2 * pace.CHECK_HOLDS
    ended = run_slow(night, monkeypatch, lambda _, t: 1.0 if "LR = 1.0" in t else 1 / 8, num)
    assert ended[0] == ["ok"] * (3 + 2)


@pytest.mark.parametrize("how", ["stop", "interrupt"])
def test_the_wait_for_the_machine_ends_when_asked(night: Any, monkeypatch: Any, how: str) -> None:
    def end(event: Any) -> None:
        if isinstance(event, Phase) and event.detail.startswith("the machine is slow"):
            if how == "stop":
                control.request(RunDirectory(night.root), control.Request.STOP)
            else:
                night.stop.set()

    night.listeners.append(end)
    night.executor = Machine(lambda n, _: 1 / 8 if n >= 4 else 1.0)
    ended = night.run([variant(LR=2.0)], experiments=1)
    assert ended == ("stopped" if how == "stop" else "interrupted")
    assert night.session.experiment(1).verdict is None
    assert len(night.executor.specs) == 5
    night.stop.clear()
    night.listeners.clear()
    monkeypatch.setattr(pace, "PAUSES", (0.0, 0.0))
    night.executor = Machine(lambda *_: 1.0)
    night.run([])
    assert night.session.experiment(1).verdict is Verdict.KEEP
    assert len(told_of_the_machine(night)) == 2


def test_the_time_limit_ends_the_wait_for_the_machine(night: Any, monkeypatch: Any) -> None:
    left = iter([3600.0] * 20)
    monkeypatch.setattr(
        Limits, "seconds_left", lambda *_: 2.3 if len(night.executor.specs) >= 5 else next(left)
    )
    night.executor = Machine(lambda n, _: 1 / 8 if n >= 4 else 1.0)
    monkeypatch.setattr(
        "autoresearch.session.loop.Loop._wait",
        lambda loop, seconds, why="": (
            waits.append(seconds),
            monkeypatch.setattr(Limits, "seconds_left", lambda *_: 2.1),
        ),
    )
    waits: list[float] = []
    assert night.run([variant(LR=2.0)], experiments=1) == "hours"
    assert waits == [pytest.approx(0.1)], "not the pause of 150 s"
    assert len(night.executor.specs) == 5


def test_the_person_is_told_of_a_keep_and_of_the_end(night: Any, tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = ["sh", "-c", f'echo "$0" >> {told}']
    night.run([variant(LR=2.0)], experiments=1, **{"session.notify": script})
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not told.exists() or told.read_text().count("\n") < 2):
        time.sleep(0.05)
    lines = sorted(told.read_text().splitlines())
    name = f"{night.root.name} t: "
    assert lines[0].startswith(f"{name}NOT CONFIRMED: not measured on fresh seeds yet")
    assert lines[0].endswith("; ended, the limit of experiments was reached")
    assert re.fullmatch(
        name + r"kept #1, \d\.\d+ -\d\.\d+, P \S+: try LR = 2.0 # learning rate", lines[1]
    )


def test_data_in_the_code_of_an_idea_is_shown(night: Any) -> None:
    night.run([variant(LR=2.0), f"{variant(LR=2.5)}X = '{'a' * 5000}'\n"], experiments=2)
    alerts = [(a.text, a.command) for a in night.session.alerts if "data in its code" in a.text]
    text = "#2 brings data in its code: train.py line 5: 5,000 bytes; is it what it should be?"
    assert alerts == [(text, "autoresearch diff 2")]


def test_a_request_to_stop_ends_after_the_trial(night: Any) -> None:
    def ask(spec: TrialSpec) -> None:
        if len(night.executor.specs) == 4:
            control.request(RunDirectory(night.root), control.Request.STOP)

    night.executor.before_trial = ask
    assert night.run([variant(LR=2.0), variant(LR=2.5)]) == "stopped"
    assert night.session.experiment(1).verdict is Verdict.KEEP
    assert len(night.session.experiments) == 2


def test_a_proposal_that_the_tip_already_holds_is_abandoned(night: Any) -> None:
    text = TRAIN.replace("# a script", "# another script")
    night.run([variant(LR=2.5), variant(LR=2.5), text], experiments=2, ahead=1)
    session = night.session
    assert session.experiment(1).verdict is Verdict.KEEP
    assert (session.experiment(2).state, session.experiment(2).reason) == (
        State.ABANDONED,
        "duplicate",
    )


def test_the_cost_limit_of_a_call_ends_the_session_as_such(night: Any) -> None:
    limit = CostLimitError("the next call could cost $1", retry_seconds=None)
    assert night.run([limit]) == "max_cost"
    assert night.session.stop_reason == "max_cost"


def test_what_ended_for_want_of_money_or_ideas_is_confirmed_all_the_same(night: Any) -> None:
    confirmed: list[Any] = []
    limit = CostLimitError("the next call could cost $1", retry_seconds=None)
    assert night.run([variant(LR=2.5), limit], confirm=confirmed.append) == "max_cost"
    assert [session.best for session in confirmed] == [1]
    assert night.run([], confirm=confirmed.append) == "proposer"
    assert len(confirmed) == 2


def commit_a_comment(night: Any) -> None:
    path = night.root / "train.py"
    path.write_text(path.read_text().replace("# a script", "# my script"))
    git(night, "commit", "-qam", "my own comment")


def test_a_commit_during_a_trial_is_measured_and_the_idea_tried_on_top_of_it(night: Any) -> None:
    def commit(spec: TrialSpec) -> None:
        if len(night.executor.specs) == 4:
            commit_a_comment(night)

    night.executor.before_trial = commit
    assert night.run([variant(LR=2.5)], experiments=1) == "experiments"
    idea, own = night.session.experiments[1:]
    assert (own.proposer, own.description, own.verdict) == (
        "human",
        "my own comment",
        Verdict.KEEP,
    )
    assert (idea.verdict, idea.parent) == (Verdict.KEEP, own.commit)
    # What its old code scored is not what its new code is judged by: that was trained.
    assert b"LR = 2.5" in night.executor.specs[3].files["train.py"]
    trained = night.executor.specs[5].files["train.py"]
    assert b"LR = 2.5" in trained
    assert b"# my script" in trained
    assert len(idea.trials) == len(night.executor.specs) - 5
    assert git(night, "show", "autoresearch/t:train.py") == trained.decode().strip()


def test_a_revert_during_a_trial_does_not_end_the_night(night: Any) -> None:
    night.run([variant(LR=2.5)], experiments=1)
    count = len(night.executor.specs)

    def undo(spec: TrialSpec) -> None:
        if len(night.executor.specs) == count + 1:
            with night.record as record:
                revert.apply(record, revert.plan(record, "1"))

    night.executor.before_trial = undo
    text = variant(LR=2.5).replace("# a script", "# another script")
    assert night.run([text], experiments=1) == "experiments"
    idea, tip = night.session.experiments[2:]
    assert (tip.proposer, tip.verdict) == ("human", Verdict.KEEP)
    assert idea.parent == tip.commit
    assert idea.verdict in (Verdict.KEEP, Verdict.DISCARD)
    for spec in night.executor.specs[count + 1 :]:
        assert b"LR = 1.0" in spec.files["train.py"]


def test_a_baseline_that_was_repaired_is_the_baseline(night: Any) -> None:
    (night.root / "train.py").write_text(variant(LR=-1))
    git(night, "commit", "-qam", "broken")
    with pytest.raises(WorkError, match="does not run"):
        night.run([])
    (night.root / "train.py").write_text(variant(LR=2.0))
    git(night, "commit", "-qam", "repaired")
    night.run([variant(LR=2.5)], experiments=1)
    session = night.session
    baseline, idea = session.experiments
    assert (baseline.number, baseline.proposer, baseline.verdict) == (0, "baseline", Verdict.KEEP)
    assert len([t for t in baseline.trials if t.result.ok]) == 3
    assert idea.verdict is Verdict.KEEP
    summary = summarize(session)
    assert summary.delta is not None
    assert summary.delta < 0


def test_a_baseline_that_failed_once_is_tried_again(night: Any) -> None:
    real = night.executor.run

    def full(spec: TrialSpec, **kwargs: Any) -> Any:
        result = real(spec, **kwargs)
        return dataclasses.replace(result, outcome=Outcome.CRASH, reason="oom", score=None)

    night.executor.run = full
    with pytest.raises(WorkError, match="does not run: oom"):
        night.run([])
    night.executor.run = real
    night.run([variant(LR=2.5)], experiments=1)
    baseline, idea = night.session.experiments
    assert baseline.verdict is Verdict.KEEP
    assert [t.result.outcome for t in baseline.trials] == [Outcome.OK] * 3
    assert idea.verdict is Verdict.KEEP


def test_a_proposer_that_has_nothing_is_not_asked_again_in_the_same_trial(night: Any) -> None:
    real = night.executor.run

    def long(spec: TrialSpec, *, on_progress: Any, stop: Any) -> Any:
        result = real(spec, on_progress=on_progress, stop=stop)
        for _ in range(20):
            wait_for_the_proposer()
            on_progress(TICK)
        return result

    night.executor.run = long
    silent = [ProposerUnavailableError("down", retry_seconds=600.0) for _ in range(9)]
    night.listeners.append(
        lambda e: night.stop.set() if isinstance(e, Phase) and e.name == "wait" else None
    )
    night.run([variant(LR=2.0), *silent], ahead=1)
    assert len(night.proposer.answers) == len(silent) - 2, "once ahead, once after the trial"


class Asked:
    """A proposer that thinks until it is told to stop, and says when it began."""

    kind = "search"

    def __init__(self) -> None:
        self.began = threading.Event()

    def propose(self, context: Any, stop: threading.Event) -> Proposal:
        self.began.set()
        stop.wait(30)
        raise CancelledError("stopped")

    def check(self) -> str:
        return "thinks"


def ask_once(event: threading.Event, night: Any, what: control.Request) -> threading.Thread:
    def ask() -> None:
        event.wait(20)
        control.request(RunDirectory(night.root), what)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_a_request_to_stop_now_ends_a_proposal_under_way(night: Any, monkeypatch: Any) -> None:
    thinker = Asked()
    monkeypatch.setitem(type(night).run.__globals__, "ListProposer", lambda _: thinker)
    thread = ask_once(thinker.began, night, control.Request.STOP_NOW)
    assert night.run([]) == "stopped"
    thread.join()
    assert len(night.executor.specs) == 3, "only the baseline"


def test_a_request_to_stop_ends_the_wait_of_an_outage(night: Any) -> None:
    waits = threading.Event()

    def watch(event: Any) -> None:
        if isinstance(event, Phase) and event.name == "wait":
            waits.set()

    thread = ask_once(waits, night, control.Request.STOP)
    night.listeners.append(watch)
    began = time.monotonic()
    assert night.run([ProposerUnavailableError("429", retry_seconds=600.0)]) == "stopped"
    thread.join()
    assert time.monotonic() - began < 60


def test_a_pause_holds_between_the_trials_of_one_experiment(night: Any) -> None:
    paused = threading.Event()
    folder = RunDirectory(night.root)

    def ask(spec: TrialSpec) -> None:
        if len(night.executor.specs) == 1:
            control.request(folder, control.Request.PAUSE)

    said: list[str] = []

    def watch(event: Any) -> None:
        if isinstance(event, Phase) and event.name == "request":
            said.append(event.detail)
        if isinstance(event, Phase) and event.detail == "paused":
            assert len(night.executor.specs) == 1
            paused.set()
            control.withdraw(folder, control.Request.PAUSE)

    night.executor.before_trial = ask
    night.listeners.append(watch)
    assert night.run([]) == "proposer"
    assert paused.is_set()
    assert len(night.executor.specs) == 3
    pausing = "pausing after this trial; `autoresearch resume` takes it back"
    assert said == [pausing, "`autoresearch resume` continues", ""]


@pytest.mark.parametrize(("slow_share", "most"), [(math.inf, 2), (-1.0, 3)])
def test_one_idea_is_prepared_ahead_and_one_more_from_a_slow_proposer(
    night: Any, monkeypatch: Any, slow_share: float, most: int
) -> None:
    monkeypatch.setattr("autoresearch.session.loop.SLOW_SHARE", slow_share)
    real = night.executor.run
    seen = []

    def long(spec: TrialSpec, *, on_progress: Any, stop: Any) -> Any:
        result = real(spec, on_progress=on_progress, stop=stop)
        for _ in range(6):
            wait_for_the_proposer()
            on_progress(TICK)
        seen.append(sum(e.commit != e.parent for e in night.session.open))
        return result

    night.executor.run = long
    night.run([variant(LR=0.1 * n) for n in range(1, 6)], experiments=4, ahead=1)
    assert max(seen) == most, "the one under trial and those that wait"
    assert seen[4] == most


def test_while_nothing_is_measured_the_file_in_the_folder_is_the_baseline(night: Any) -> None:
    (night.root / "train.py").write_text(variant(LR=2.9))
    night.run([variant(LR=0.5)], experiments=1)
    baseline, idea = night.session.experiments
    assert all(b"LR = 2.9" in spec.files["train.py"] for spec in night.executor.specs[:3])
    assert (baseline.proposer, baseline.verdict) == ("baseline", Verdict.KEEP)
    assert (idea.proposer, idea.verdict) == ("search", Verdict.DISCARD)
    assert git(night, "show", "autoresearch/t:train.py") == variant(LR=2.9).strip()
    assert git(night, "status", "--porcelain", "train.py") == ""
    (told,) = [a for a in night.session.alerts if a.about == "baseline"]
    assert "`train.py` as it is in the folder is the baseline" in told.text
    assert told not in summarize(night.session).alerts


def test_a_repair_of_a_baseline_that_crashed_needs_no_commit(night: Any) -> None:
    (night.root / "train.py").write_text(variant(LR=-1))
    with pytest.raises(WorkError):
        night.run([])
    (night.root / "train.py").write_text(variant(LR=2.0))
    night.run([])
    (baseline,) = night.session.experiments
    assert baseline.verdict is Verdict.KEEP
    assert b"LR = 2.0" in night.executor.specs[-1].files["train.py"]


@pytest.mark.parametrize(("rate", "is_told"), [(0.1, True), (1.01, False)])
def test_a_commit_that_made_it_worse_is_told_as_that(
    night: Any, rate: float, is_told: bool
) -> None:
    night.run([])
    (night.root / "train.py").write_text(variant(LR=rate))
    git(night, "commit", "-qam", "my own idea")
    night.run([])
    found = [a for a in summarize(night.session).alerts if "made the branch worse" in a.text]
    assert bool(found) is is_told
    if is_told:
        assert "against #0" in found[0].text
        assert found[0].command == "autoresearch revert 1"


def test_a_hand_edit_is_the_next_experiment(night: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoresearch.session.proposals.SETTLED_SECONDS", 0.0)

    def edit(spec: TrialSpec) -> None:
        if len(night.executor.specs) == 4:
            (night.root / "train.py").write_text(variant(LR=2.9))

    night.executor.before_trial = edit
    night.run([variant(LR=0.5), variant(LR=0.6)], experiments=2)
    mine = night.session.experiment(2)
    assert (mine.proposer, mine.verdict) == ("human", Verdict.KEEP)
    assert mine.description.startswith("hand edit: LR ")
    assert mine.parameters == {"LR": 2.9}
    assert "LR = 2.9" in git(night, "show", "autoresearch/t:train.py")
    assert (night.root / "train.py").read_text() == variant(LR=2.9)
