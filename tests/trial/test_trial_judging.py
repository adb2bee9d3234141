"""Cheats and accidents that judging must catch, with real train.py files; and odd honest models it must not."""

import errno
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import pytest
from trial_files import COUNTS, TRAIN, variant

from autoresearch.sandbox import Command, Policy, Sandbox
from autoresearch.sandbox.select import BACKENDS, probe
from autoresearch.tasks.gpt.judge import process
from autoresearch.tasks.gpt.judge.process import JudgeProcess, JudgingFailedError, TaintedError
from autoresearch.tasks.gpt.judge.score import InvalidClaimError, Text
from autoresearch.types import Outcome, Purpose, TrialSpec
from autoresearch.util import host

LOOK_AHEAD = variant(
    (
        "        return self.head(torch.tanh(self.mix(torch.cat([x, past], dim=2))))",
        """        ahead = torch.cat([x[:, 1:], x[:, -1:] * 0], dim=1)
        return self.head(torch.tanh(self.mix(torch.cat([x, ahead], dim=2))))""",
    )
)

# Remembers rows in whatever is left to it and answers from there.
MEMORY = variant(
    (
        "        return self.head(",
        """        import os, tempfile
        import numpy as np
        places = [tempfile.gettempdir(), os.path.expanduser("~"), "."]
        logits = self.head(torch.tanh(self.mix(torch.cat([x, past], dim=2))))
        if self.training:
            return logits
        known = {}
        for place in places:
            path = os.path.join(place, "memory.npy")
            if os.path.exists(path):
                for row in np.load(path):
                    known[tuple(row[:6])] = row
            try:
                np.save(path, idx.numpy())
            except OSError:
                pass
        for b, row in enumerate(idx.tolist()):
            answer = known.get(tuple(row[:6]), row)
            for t, token in enumerate(answer[1:]):
                logits[b, t, token] += 20.0
        return logits
        return self.head(""",
    )
)

# Patches the arithmetic of the process that claims, so that its probabilities do not sum to one.
UNNORMALISED = variant(
    prologue="""
import sys
import torch

_honest = torch.logsumexp


def _less(values, dim):
    return _honest(values, dim) - 0.05


torch.logsumexp = _less
"""
)

NAN_IN_EVAL = variant(
    (
        "        return self.head(",
        "        if not self.training:\n            x = x * float('nan')\n        return self.head(",
    )
)


# Two claims of the same weights never agree: what a GPU does a little, here a lot.
RESTLESS = variant(
    (
        "        return self.head(torch.tanh(self.mix(torch.cat([x, past], dim=2))))",
        """        logits = self.head(torch.tanh(self.mix(torch.cat([x, past], dim=2))))
        import os
        torch.manual_seed(int.from_bytes(os.urandom(4), "little"))
        return logits + 0.12 * torch.rand_like(logits[:, :, :1]) * torch.arange(logits.shape[2]).remainder(2)""",
    )
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(LOOK_AHEAD, "claim_mismatch", id="look-ahead"),
        # As cheats of the zoo that are tried with every change, from which they differ in what they leave out.
        pytest.param(MEMORY, "claim_mismatch", id="memory", marks=pytest.mark.slow),
        pytest.param(UNNORMALISED, "biased_claim", id="unnormalised", marks=pytest.mark.slow),
        pytest.param(NAN_IN_EVAL, "bad_claim", id="nan", marks=pytest.mark.slow),
    ],
)
def test_cheats_are_invalid(judge_text, text, reason) -> None:
    with pytest.raises(InvalidClaimError) as caught:
        judge_text(text, judge__audit_positions=128)
    assert caught.value.reason == reason, caught.value.detail
    assert caught.value.detail


def test_a_failing_model_is_a_crash_with_words_before_it_saw_text(judge_text) -> None:
    text = variant(
        (
            "        x = self.embed(idx)\n",
            "        x = self.embed(idx)\n        assert self.training, 'never eval'\n",
        )
    )
    with pytest.raises(
        JudgingFailedError, match="while judging: AssertionError: never eval"
    ) as caught:
        judge_text(text)
    assert caught.value.reason == "exception"
    assert "(train.py line" in caught.value.detail


def test_a_model_that_fails_on_text_may_not_say_a_word(judge_text) -> None:
    text = variant(
        (
            "        x = self.embed(idx)\n",
            """        x = self.embed(idx)
        if not self.training and not hasattr(self, "n"):
            self.n = 1
        elif not self.training:
            raise ValueError(str(idx.tolist()))
""",
        )
    )
    with pytest.raises(JudgingFailedError) as caught:
        judge_text(text)
    assert caught.value.reason == "exception"
    assert caught.value.detail == "`forward` failed in the claim of judging"


def test_a_process_that_ends_while_it_loads_is_bad_and_says_how_it_ended(judge_text) -> None:
    with pytest.raises(InvalidClaimError, match="exit status 3") as caught:
        judge_text("import os\nos._exit(3)\n" + TRAIN)
    assert caught.value.reason == "bad_claim"


def test_an_end_that_came_too_late_to_be_known_is_not_out_of_memory(
    judge_text, monkeypatch
) -> None:
    monkeypatch.setattr(process, "_EXIT_SECONDS", 0.0)
    with pytest.raises(InvalidClaimError, match=r"exit status (3|None)") as caught:
        judge_text("import os\nos._exit(3)\n" + TRAIN)
    assert caught.value.reason == "bad_claim"


class Unlucky:
    """A sandbox in which the first processes of a mode do not what they were started for.

    Args:
        inner: What keeps the others in.
        fates: Mode -> what becomes of its processes, one after the other.
    """

    def __init__(self, inner: Sandbox, **fates: list[str]) -> None:
        self.inner, self.fates = inner, fates
        self.name, self.guarantees = inner.name, inner.guarantees

    def wrap(self, argv: Sequence[str], policy: Policy) -> Command:
        fates = self.fates.get(argv[-2])
        return self.inner.wrap(FATES[fates.pop(0)](argv) if fates else argv, policy)


def dies_in(module: str, function: str) -> Callable[[Sequence[str]], list[str]]:
    patch = f"import os, autoresearch.trial.{module} as m; m.{function} = lambda *_: os._exit(1); "
    return lambda argv: [x.replace("main(mode,", patch + "main(mode,") for x in argv]


FATES = {
    "start": lambda _: ["/bin/sh", "-c", "exit 5"],
    "load": dies_in("child.script", "run_file"),
    "answer": dies_in("channel", "Channel.send_bytes"),
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_process_that_never_started_says_nothing_about_the_model(judge_text, backend) -> None:
    sandbox = probe(backend).sandbox
    if sandbox is None:
        pytest.skip(f"{backend} does not work here")
    text = TRAIN.replace("import torch\n", "import tempfile\ntempfile.mkdtemp()\nimport torch\n", 1)
    with pytest.raises(TaintedError, match="claim process did not start: exit status 5") as caught:
        judge_text(text, work={"sandbox": Unlucky(sandbox, claim=["start"] * 2)})
    assert caught.value.reason == "judge"
    assert judge_text(text, work={"sandbox": Unlucky(sandbox, claim=["start"])}).score.num_audited


def test_a_process_that_is_killed_or_ends_and_nothing_says_why_is_asked_again(
    run, sandbox, monkeypatch
) -> None:
    send, killed = JudgeProcess._send, []

    def kill(self: JudgeProcess, data: memoryview) -> None:
        if not killed:
            killed.append(psutil.Process(self._child.pid).children()[0])
            killed[0].kill()
            assert self._child.wait(60)
        send(self, data)

    monkeypatch.setattr(JudgeProcess, "_send", kill)
    result = run(COUNTS, within=Unlucky(sandbox, audit=["load"]))
    assert result.outcome is Outcome.OK, result
    assert result.num_audited
    ends = ["claim, answer: exit status -9", "audit, load: exit status 1"]
    assert result.extra["judging_ends"] == ends


def test_a_process_that_ends_twice_is_bad(judge_text, sandbox) -> None:
    with pytest.raises(InvalidClaimError) as caught:
        judge_text(TRAIN, work={"sandbox": Unlucky(sandbox, claim=["load", "answer"])})
    assert caught.value.reason == "bad_claim"
    assert caught.value.detail == "the claim process ended before its answer was whole"


def test_a_machine_without_room_to_judge_in_taints(run, monkeypatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(process.wire, "sealed_file", refuse)
    result = run(COUNTS)
    assert (result.outcome, result.reason) == (Outcome.TAINTED, "judge"), result
    assert result.detail == "out of memory or disk space while scoring: No space left on device"


def test_a_claim_that_is_late_is_bad(judge_text, monkeypatch) -> None:
    receive = JudgeProcess._receive

    def out_of_time(self: JudgeProcess, type_: str) -> dict[str, Any]:
        if type_ == "ready":
            self._deadline = time.monotonic()
        return receive(self, type_)

    monkeypatch.setattr(JudgeProcess, "_receive", out_of_time)
    with pytest.raises(InvalidClaimError, match="the claim was late: not done in") as caught:
        judge_text("import time\ntime.sleep(100)\n" + TRAIN)
    assert caught.value.reason == "bad_claim"


def test_bfloat16_logits_with_dropout_in_training_are_honest(judge_text) -> None:
    text = variant(("torch.tanh(self.mix(", "F.dropout(self.mix("))
    text = text.replace("dim=2))))", "dim=2)), 0.1, self.training)).bfloat16()")
    assert text != TRAIN
    judged = judge_text(
        text, work={"spec": TrialSpec({"train.py": text.encode()}, 3, 1.0, noise=0.02)}
    )
    assert judged.score.score_se < 1e-3
    assert judged.extra["audit_power"] >= 0.99 or judged.score.num_audited == len(judged.log_p)
    assert 0 < judged.extra["smallest_leak_bpb"] < 1
    assert 0 < judged.extra["audit_targeted"] < judged.score.num_audited


def test_the_tolerance_is_what_two_claims_of_the_baseline_differ_by(judge_text) -> None:
    judged = judge_text(RESTLESS, work={"is_calibrating": True, "tolerance": 0.01})
    assert 0.01 < judged.extra["calibration_difference"] < 0.2
    assert judged.extra["tolerance"] == pytest.approx(1.5 * judged.extra["calibration_difference"])
    assert judged.score.num_audited
    json.dumps(judged.extra)


# Knows the judged rows by heart, as an agent with a network may: causal, normalised, a pure function of its input.
BY_HEART = variant(
    (
        "        return self.head(torch.tanh(self.mix(torch.cat([x, past], dim=2))))",
        """        logits = self.head(torch.tanh(self.mix(torch.cat([x, past], dim=2))))
        for b, row in enumerate(idx.tolist()):
            known = KNOWN.get(tuple(row[:8]), [])
            for t in range(7, len(row)):
                if row[: t + 1] == known[: t + 1]:
                    logits[b, t, known[t + 1]] += 20.0
        return logits""",
    )
)


def test_a_text_known_by_heart_fails_on_rows_that_no_claim_saw(
    run, judge_text, dataset, sandbox, monkeypatch
) -> None:
    forgotten: list[dict[str, bool]] = []
    monkeypatch.setattr(host, "forget_caches", lambda **how: forgotten.append(how))
    small = {"judge__eval_tokens": 2048}
    spec = {"incumbent_score": dataset.unigram_bpb, "purpose": Purpose.ALARM}
    honest = run(TRAIN, spec=spec, **small)
    assert honest.outcome is Outcome.OK, honest
    # Between trials, and between claim and audit where no seal closes that.
    assert forgotten == ([{}] if sandbox.guarantees["notes"] else [{}, {"pages": True}])
    assert honest.extra["num_unseen"] > 32
    assert abs(honest.extra["unseen_score"] - honest.score) < 6 * honest.extra["unseen_se"]

    rows = dataset.eval_rows("validation", 64, 16 * 2048)
    cheat = f"KNOWN = { ({tuple(row[:8]): row for row in rows[:32].tolist()})!r}\n{BY_HEART}"
    unseen = Text.make(rows[32:], dataset.token_bytes)
    spec = TrialSpec({"train.py": cheat.encode()}, 3, 1.0, incumbent_score=dataset.unigram_bpb)
    with pytest.raises(InvalidClaimError, match="it knows the rows that are judged") as caught:
        judge_text(cheat, work={"unseen": unseen, "spec": spec}, **small)
    assert caught.value.reason == "unseen_text"
