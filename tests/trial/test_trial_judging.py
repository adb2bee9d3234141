"""Cheats and accidents that judging must catch, with real train.py files; and odd honest models it must not."""

import pytest
from trial_files import TRAIN, variant

from autoresearch.types import Outcome

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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(LOOK_AHEAD, "claim_mismatch", id="look-ahead"),
        pytest.param(MEMORY, "claim_mismatch", id="memory"),
        pytest.param(UNNORMALISED, "biased_claim", id="unnormalised"),
        pytest.param(NAN_IN_EVAL, "bad_claim", id="nan"),
    ],
)
def test_cheats_are_invalid(run, text, reason) -> None:
    result = run(text, judge__audit_positions=128)
    assert (result.outcome, result.reason) == (Outcome.INVALID, reason), result
    assert result.bpb is None
    assert result.detail


def test_a_failing_model_is_a_crash_with_words_before_it_saw_text(run) -> None:
    text = variant(
        (
            "        x = self.embed(idx)\n",
            "        x = self.embed(idx)\n        assert self.training, 'never eval'\n",
        )
    )
    result = run(text)
    assert (result.outcome, result.reason) == (Outcome.CRASH, "exception")
    assert "while judging: AssertionError: never eval (train.py line" in result.detail


def test_a_model_that_fails_on_text_may_not_say_a_word(run) -> None:
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
    result = run(text)
    assert (result.outcome, result.reason) == (Outcome.CRASH, "exception")
    assert result.detail == "`forward` failed in the claim of judging"


def test_a_claim_that_is_late_is_bad(run) -> None:
    text = variant(
        (
            "        x = self.embed(idx)\n",
            "        x = self.embed(idx)\n        if not self.training:\n            __import__('time').sleep(100)\n",
        )
    )
    result = run(text, judge__timeout_seconds=6.0)
    assert (result.outcome, result.reason) == (Outcome.INVALID, "bad_claim")
    assert "late" in result.detail


def test_dropout_in_training_is_honest(run) -> None:
    text = variant(("torch.tanh(self.mix(", "F.dropout(self.mix(")).replace(
        "dim=2))))", "dim=2)), 0.1, self.training))"
    )
    assert run(text).outcome is Outcome.OK


def test_bfloat16_logits_are_honest(run) -> None:
    text = variant(("        return self.head(", "        return 1.0 * self.head(")).replace(
        "dim=2))))", "dim=2)))).bfloat16()"
    )
    result = run(text.replace("model(x).flatten", "model(x).float().flatten"))
    assert result.outcome is Outcome.OK, result
    assert text != TRAIN
