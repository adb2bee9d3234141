"""One honest trial, end to end, against a slow and independent measurement."""

import json
import math
from pathlib import Path

import numpy as np
import torch
from trial_files import TRAIN, variant

from autoresearch.trial.client import decode_weights
from autoresearch.types import Outcome


def slow_bpb(weights: Path, dataset, context: int, num_tokens: int) -> float:
    """Bits per byte by the definition, one row at a time, in float64 and by loops."""
    namespace: dict = {"__name__": "train"}
    exec(compile(TRAIN, "train.py", "exec"), namespace)
    model = namespace["build_model"](dataset.vocab_size, 64, "cpu").double().eval()
    state = decode_weights(memoryview(weights.read_bytes()))
    model.load_state_dict({k: v.double() for k, v in state.items()})
    nats, num_bytes = 0.0, 0
    for row in np.asarray(dataset.eval_rows("validation", context, num_tokens)).astype(int):
        with torch.no_grad():
            logits = model(torch.tensor(row[None, :-1]))[0]
        for position in range(context):
            target = int(row[position + 1])
            if target == dataset.bos_id:
                continue
            values = logits[position].tolist()
            top = max(values)
            total = top + math.log(sum(math.exp(v - top) for v in values))
            nats += total - values[target]
            num_bytes += int(dataset.tokenizer.byte_lengths[target])
    return nats / (math.log(2) * num_bytes)


def test_score_agrees_with_a_slow_and_independent_one(run, dataset, tmp_path) -> None:
    seen = []
    result = run(TRAIN, spec={"keep_weights": True}, on_progress=seen.append)
    assert result.outcome is Outcome.OK, result
    assert result.reason == ""
    expected = slow_bpb(Path(result.weights_path), dataset, 64, 8192)
    assert abs(result.bpb - expected) < 1e-6
    assert abs(result.claimed_bpb - expected) < 1e-6
    assert result.bpb < 0.9 * dataset.unigram_bpb
    assert result.num_audited == 64
    assert result.audit_se < 1e-6
    assert result.num_tokens == result.num_steps * 8 * 32
    assert result.num_steps > 10
    assert 0.9 < result.train_seconds < 3.0
    assert 0 < result.startup_seconds < 30
    assert result.submit_seconds is not None
    assert result.peak_memory_mb > 50
    assert result.num_params == 32 * dataset.vocab_size + 64 * 32 + 32
    assert result.curve[0].loss > result.curve[-1].loss
    assert result.curve[-1].values["lr"] == 3e-3
    phases = [p.phase for p in seen]
    assert [p for i, p in enumerate(phases) if p not in phases[:i]] == [
        "startup",
        "train",
        "claim",
        "audit",
    ] or "submit" in phases
    assert seen[0].number == 1
    json.dumps(dict(result.extra))


def test_claim_is_enough_when_the_score_is_too_high_to_keep(run) -> None:
    result = run(TRAIN, spec={"audit_below": 0.01})
    assert result.outcome is Outcome.OK
    assert result.num_audited == 0
    assert result.audit_se is None
    assert result.bpb == result.claimed_bpb


def test_same_seed_gives_the_same_batches_at_any_speed(run) -> None:
    text = variant(
        (
            "        trial.log(loss=loss, lr=LR)\n",
            "        print(x.sum().item(), y.sum().item())\n",
        ),
    )
    first, second = (run(text, spec={"audit_below": 0.0}) for _ in range(2))
    lines = [r.log_tail.splitlines()[:20] for r in (first, second)]
    assert len(lines[0]) == 20
    assert lines[0] == lines[1]
