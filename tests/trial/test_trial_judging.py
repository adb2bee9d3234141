"""Cheats and accidents that judging must catch, with real train.py files; and odd honest models it must not."""

import json
from dataclasses import replace

import pytest
from trial_files import TRAIN, variant

from autoresearch.trial.judge import InvalidClaimError
from autoresearch.trial.judge_process import JudgingFailedError, TaintedError
from autoresearch.trial.sandbox import Command, Policy
from autoresearch.types import TrialSpec

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
        pytest.param(MEMORY, "claim_mismatch", id="memory"),
        pytest.param(UNNORMALISED, "biased_claim", id="unnormalised"),
        pytest.param(NAN_IN_EVAL, "bad_claim", id="nan"),
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


def test_a_process_that_never_started_says_nothing_about_the_model(judge_text, sandbox) -> None:
    class Broken:
        """A sandbox whose first claim processes end at once."""

        name = sandbox.name

        def __init__(self, num_broken: int) -> None:
            self.left = num_broken

        def wrap(self, argv: list[str], policy: Policy) -> Command:
            command = sandbox.wrap(argv, policy)
            if "claim" in argv and self.left:
                self.left -= 1
                return replace(command, argv=("/bin/sh", "-c", "exit 5"))
            return command

    with pytest.raises(TaintedError, match="claim process did not start: exit status 5") as caught:
        judge_text(TRAIN, work={"sandbox": Broken(2)})
    assert caught.value.reason == "judge"
    assert judge_text(TRAIN, work={"sandbox": Broken(1)}).score.num_audited


def test_a_claim_that_is_late_is_bad(judge_text) -> None:
    with pytest.raises(InvalidClaimError, match="late") as caught:
        judge_text("import time\ntime.sleep(100)\n" + TRAIN, judge__timeout_seconds=6.0)
    assert caught.value.reason == "bad_claim"


def test_bfloat16_logits_with_dropout_in_training_are_honest(judge_text) -> None:
    text = variant(("torch.tanh(self.mix(", "F.dropout(self.mix("))
    text = text.replace("dim=2))))", "dim=2)), 0.1, self.training)).bfloat16()")
    assert text != TRAIN
    judged = judge_text(
        text, work={"spec": TrialSpec({"train.py": text.encode()}, 3, 1.0, noise_bpb=0.02)}
    )
    assert judged.score.audit_se < 1e-3
    assert judged.extra["audit_power"] >= 0.99 or judged.score.num_audited == len(judged.log_p)
    assert 0 < judged.extra["smallest_leak_bpb"] < 1
    assert 0 < judged.extra["audit_targeted"] < judged.score.num_audited


def test_the_tolerance_is_what_two_claims_of_the_baseline_differ_by(judge_text) -> None:
    judged = judge_text(RESTLESS, work={"is_calibrating": True, "tolerance": 0.01})
    assert 0.01 < judged.extra["calibration_difference"] < 0.2
    assert judged.extra["tolerance"] == pytest.approx(1.5 * judged.extra["calibration_difference"])
    assert judged.score.num_audited
    json.dumps(judged.extra)
