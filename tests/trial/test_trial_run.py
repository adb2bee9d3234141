"""One honest trial, end to end, against a slow and independent measurement."""

import json
import math
import mmap
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, load_model
from trial_files import COUNTS, TRAIN, variant

from autoresearch.tasks.gpt import training
from autoresearch.tasks.gpt.executor import GptExecutor
from autoresearch.tasks.gpt.judge.process import JudgeProcess, Work
from autoresearch.tasks.gpt.training import Trained, Training
from autoresearch.tasks.gpt.weights_format import problem_of
from autoresearch.trial.child.weights import decode_weights, encode_weights
from autoresearch.types import Outcome, Purpose, TrialSpec

SHOW = """    import os
    print(os.environ["AUTORESEARCH_ATTENTION"])
"""


def slow_bpb(weights: Path, dataset, context: int, num_tokens: int) -> float:
    """Bits per byte by the definition, one row at a time, in float64 and by loops."""
    namespace: dict = {"__name__": "train"}
    exec(compile(TRAIN, "train.py", "exec"), namespace)
    model = namespace["build_model"](dataset.vocab_size, 64, "cpu")
    load_model(model, weights)
    model.double().eval()
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
            num_bytes += int(dataset.token_bytes[target])
    return nats / (math.log(2) * num_bytes)


def test_a_baseline_and_a_candidate_end_to_end(
    run, configure, dataset, sandbox, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(training, "_PROGRESS_SECONDS", 0.0)
    executor = GptExecutor(
        configure(),
        dataset,
        sandbox,
        scratch=tmp_path / "trials",
        cache=tmp_path / "cache",
        environment={"AUTORESEARCH_ATTENTION": "sdpa+masked"},
    )
    seen = []
    text = variant(
        ("    trial.start()\n", SHOW + "    trial.start()\n"),
        (
            "for x, y in trial.batches(B, T):",
            "for _, (x, y) in zip(range(200), trial.batches(B, T)):",
        ),
        (
            "    trial.submit(model)",
            "    import sys\n    print('compiler:', 'torch._dynamo' in sys.modules)\n    trial.submit(model)",
        ),
    )
    result = run(
        text,
        executor=executor,
        spec={
            "number": 4,
            "keep_weights": True,
            "purpose": Purpose.INCUMBENT,
            "budget_seconds": 60.0,
        },
        on_progress=seen.append,
    )
    assert result.outcome is Outcome.OK, result
    assert {progress.number for progress in seen} == {4}
    assert result.reason == ""
    assert "sdpa+masked" in result.log_tail
    assert "compiler: False" in result.log_tail, "it takes as long to import as torch"
    expected = slow_bpb(tmp_path / "trials" / "1-1.safetensors", dataset, 64, 8192)
    assert abs(result.score - expected) < 1e-6
    assert abs(result.claimed_score - expected) < 1e-6
    assert result.score < 0.95 * dataset.unigram_bpb
    assert result.num_audited == 64
    assert result.score_se < 1e-6
    assert result.num_tokens == result.num_steps * 8 * 32
    assert result.num_steps == 200
    assert 0 < result.train_seconds < 60
    assert 0 < result.startup_seconds < 60
    assert result.submit_seconds is not None
    assert result.peak_memory_mb > 50
    assert result.num_params == 32 * dataset.vocab_size + 64 * 32 + 32
    assert result.curve[0].loss > result.curve[-1].loss
    assert result.curve[-1].values["lr"] == 3e-3
    assert result.sandbox == sandbox.name
    phases = list(dict.fromkeys(p.phase for p in seen if p.phase != "submit"))
    assert phases == ["startup", "train", "claim", "audit"]
    extra = result.extra
    json.dumps(dict(extra))
    assert extra["attention"] == "sdpa+masked"
    assert extra["tolerance"] == executor.calibration.tolerance == 0.25
    assert extra["calibration_difference"] < 1e-4
    assert executor.calibration.submit_seconds == result.submit_seconds
    assert 0 < extra["smallest_leak_bpb"] < 1
    for name in ("claim", "audit", "calibration"):
        assert 0 < extra[f"{name}_seconds"] <= result.judge_seconds

    # A candidate that cannot be kept is only claimed; it teaches the lab nothing.
    assert (tmp_path / "cache" / "reference.npy").is_file()
    poor = run(
        text,
        executor=executor,
        spec={
            "audit_below": 0.01,
            "label": "2-0",
            "purpose": Purpose.INCUMBENT,
            "budget_seconds": 60.0,
        },
    )
    assert poor.outcome is Outcome.OK
    assert (poor.num_audited, poor.score_se) == (0, None)
    assert poor.score == poor.claimed_score
    assert "calibration_seconds" not in poor.extra


def _file(header: object, body: bytes = b"") -> memoryview:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return memoryview(len(text).to_bytes(8, "little") + text + body)


def _entry(start: int, end: int, *shape: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (_file({"__metadata__": {"a": "b"}, "w": _entry(0, 8, 2)}, bytes(8)), ""),
        (_file({"v": _entry(8, 8, 0), "w": _entry(0, 8, 2, 1), "u": _entry(8, 12)}, bytes(12)), ""),
        (memoryview(b""), "longer than"),
        (memoryview(pickle.dumps({"w": 1.0})), "longer than"),
        (memoryview((1 << 60).to_bytes(8, "little")), "longer than"),
        (_file(b"[" * 50_000), "is none"),
        (_file([]), "is none"),
        (_file({"w": 3}), "is none"),
        (_file({"w": _entry(0, 8, 2, dtype="PICKLE")}, bytes(8)), "is none"),
        (_file({"w": _entry(0, 8, 3)}, bytes(8)), "is none"),
        (_file({"w": _entry(0, -4, -1)}, bytes(8)), "is none"),
        (_file({"w": {**_entry(0, 8), "shape": [1e300, 1e300]}}, bytes(8)), "is none"),
        (_file({"v": _entry(0, 8, 2), "w": _entry(4, 12, 2)}, bytes(12)), "is none"),
        (_file({"w": _entry(0, 8, 2)}, bytes(9)), "do not fill"),
    ],
)
def test_weights_are_what_they_say_they_are(data, problem) -> None:
    found = problem_of(data)
    assert problem in found
    assert bool(problem) == bool(found)


def test_weights_there_is_no_room_for_are_told(configure, dataset, sandbox, tmp_path) -> None:
    (tmp_path / "full").write_text("")
    executor = GptExecutor(configure(), dataset, sandbox, scratch=tmp_path / "full")
    trained = Trained(weights=mmap.mmap(-1, 8))
    assert (
        executor._save_weights(TrialSpec({}, 1, 1.0, label="t/1-1"), trained) == "Not a directory"
    )


def test_weights_are_a_safetensors_file_and_tied_ones_stay_tied(tmp_path) -> None:
    wte = torch.randn(4, 3).bfloat16()
    state = {"wte": wte, "head": wte, "flipped": wte.T, "step": torch.tensor(7), "no": wte[:0]}
    header, tensors = encode_weights(state)
    bodies = (t.contiguous().view(-1).view(torch.uint8).numpy().tobytes() for t in tensors)
    path = tmp_path / "model.safetensors"
    path.write_bytes(header + b"".join(bodies))
    found = decode_weights(memoryview(path.read_bytes()))
    assert {name: t.dtype for name, t in found.items()} == {n: t.dtype for n, t in state.items()}
    assert all(torch.equal(found[name], value) for name, value in state.items())
    assert found["head"].data_ptr() == found["wte"].data_ptr()
    known = load_file(path)
    assert state.keys() - known.keys() == {"head"}
    assert all(torch.equal(known[name], state[name]) for name in known)


def test_on_a_gpu_the_claim_process_warms_up_early(run, monkeypatch) -> None:
    started = []
    honest = JudgeProcess.__init__

    def note(self: JudgeProcess, work: Work, mode: str) -> None:
        started.append((mode, work.device, bytes(work.weights[:8])))
        honest(self, work, mode)

    monkeypatch.setattr(JudgeProcess, "__init__", note)
    tell = Training._handle

    def on_a_gpu(self: Training, message: dict) -> None:
        tell(self, message)
        if message["type"] == "joined":
            self._result.device = "cuda"
        if message["type"] == "submit":
            self._result.device = "cpu"

    monkeypatch.setattr(Training, "_handle", on_a_gpu)
    result = run(COUNTS, spec={"audit_below": 0.0}, trial__budget_seconds=6.0)
    assert result.outcome is Outcome.OK, result
    # Before there are weights, for the device of the trainer; the audit comes with the weights, in case it is needed.
    assert started[0] == ("claim", "cuda", b"")
    assert [mode for mode, *_ in started] == ["claim", "audit"]


def test_each_pair_of_a_confirmation_has_its_own_rows_of_the_test_split(
    configure, dataset, sandbox, tmp_path
) -> None:
    def rows(part: int, **settings: int) -> tuple[set, int, bool]:
        executor = GptExecutor(configure(**settings), dataset, sandbox, scratch=tmp_path)
        first, num, is_seen = executor._judged_rows("test", part)
        text = executor._text("test", part)
        assert (executor._rows("test")[first : first + num] == text.rows).all()
        return {tuple(row) for row in text.rows.tolist()}, num, is_seen

    small = {"judge__eval_tokens": 640, "judge__batch_rows": 4}
    parts = [rows(part, **small) for part in range(4)]
    assert [(num, is_seen) for _, num, is_seen in parts] == [(10, False)] * 4
    assert len(set().union(*(text for text, _, _ in parts))) == 40
    # More than the split has: less for each pair, and from the fifth on what was seen.
    shown = [rows(part, judge__batch_rows=4) for part in range(5)]
    assert len(set().union(*(text for text, _, _ in shown[:4]))) == 4 * shown[0][1]
    assert [is_seen for _, _, is_seen in shown] == [False] * 4 + [True]
    assert shown[4][0] == shown[0][0]
