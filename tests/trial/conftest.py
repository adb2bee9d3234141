"""A small prepared text, a tiny model in a real train.py, and an executor to run it."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trial_files import TRAIN

import small_text
from autoresearch.config import Config, load_config
from autoresearch.errors import PrerequisiteError
from autoresearch.sandbox import NoSandbox, Sandbox, choose
from autoresearch.tasks.gpt import executor as gpt_executor
from autoresearch.tasks.gpt.data.dataset import Dataset
from autoresearch.tasks.gpt.executor import GptExecutor
from autoresearch.tasks.gpt.judge.audit import TOLERANCE
from autoresearch.tasks.gpt.judge.process import JudgeProcess, Work
from autoresearch.tasks.gpt.judge.run import Judged, judge_weights
from autoresearch.tasks.gpt.judge.score import Score, Text
from autoresearch.trial.child.weights import encode_weights
from autoresearch.types import TrialResult, TrialSpec

write_text = partial(
    small_text.write_text,
    starts=("lab", "tri", "no", "ke", "sha"),
    ends=("da", "mi", "xe", "é", "rd", "st"),
    seed=5,
    num_documents=400,
    num_words=(30, 200),
)
SETTINGS = {
    "data.vocab_size": 300,
    "data.holdout_share": 0.1,
    "trial.max_seq_len": 64,
    "trial.budget_seconds": 0.5,
    "trial.startup_seconds": 60.0,
    "trial.device": "cpu",
    "judge.context": 64,
    "judge.eval_tokens": 8192,
    "judge.batch_rows": 32,
    "judge.audit_positions": 64,
}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Dataset]:
    """The settings and the dataset, made once."""
    return small_text.prepare_text(tmp_path_factory, write_text, SETTINGS)


@pytest.fixture(scope="session")
def dataset(prepared: tuple[dict[str, Any], Dataset]) -> Dataset:
    return prepared[1]


@pytest.fixture
def configure(prepared: tuple[dict[str, Any], Dataset]) -> Callable[..., Config]:
    """Return a function from settings (dots as `__`) to a configuration."""

    def make(**settings: Any) -> Config:
        changes = {name.replace("__", "."): value for name, value in settings.items()}
        return load_config(None, {**prepared[0], **changes}).config

    return make


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    """The strongest sandbox of this machine."""
    try:
        return choose()
    except PrerequisiteError:
        return NoSandbox()


@pytest.fixture(autouse=True)
def last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Print how judging processes ended that were not asked to, for a test that fails by it.

    The lab throws their words away, since they may have seen validation text.
    """
    words = tmp_path_factory.mktemp("words") / "stderr"
    real_popen, real_ended = subprocess.Popen, JudgeProcess._ended

    def popen(*args: Any, **options: Any) -> Any:
        if options.get("stderr") != subprocess.DEVNULL:
            return real_popen(*args, **options)
        with words.open("ab") as file:
            return real_popen(*args, **{**options, "stderr": file})

    def ended(self: JudgeProcess) -> Exception:
        found = real_ended(self)
        print(f"{self._mode} ended at `{self._stage}`: exit status {self._child.exit_code}")
        return found

    monkeypatch.setattr("autoresearch.trial.process.subprocess.Popen", popen)
    monkeypatch.setattr(JudgeProcess, "_ended", ended)
    yield
    if words.exists():
        sys.stdout.write(words.read_text("utf-8", "replace"))


@pytest.fixture
def unjudged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave claim and audit out, for what is about training alone; the score is -1."""

    def judged(work: Any, *_: Any) -> Judged:
        return Judged(
            Score(score=-1.0, claimed_score=-1.0), {}, np.zeros(work.text.num_bytes.shape)
        )

    monkeypatch.setattr(gpt_executor, "judge_weights", judged)


@pytest.fixture
def judge_text(
    configure: Callable[..., Config], dataset: Dataset, sandbox: Sandbox, tmp_path: Path
) -> Iterator[Callable[..., Judged]]:
    """Return a function that judges the untrained weights of a train.py in fresh processes."""
    folder = tmp_path / "trials"

    def go(text: str, *, work: dict[str, Any] | None = None, **settings: Any) -> Judged:
        config = configure(**settings)
        namespace: dict[str, Any] = {"__name__": "train"}
        exec(compile(TRAIN, "train.py", "exec"), namespace)
        model = namespace["build_model"](dataset.vocab_size, config.trial.max_seq_len, "cpu")
        header, tensors = encode_weights(model.state_dict())
        rows = np.asarray(dataset.eval_rows("validation", 64, config.judge.eval_tokens))
        training = np.random.default_rng(0).integers(dataset.vocab_size, size=(4096, 65))
        values: dict[str, Any] = {
            "config": config,
            "sandbox": sandbox,
            "scratch": folder,
            "spec": TrialSpec({"train.py": text.encode()}, 3, 1.0),
            "file": "train.py",
            "weights": memoryview(b"".join([header, *(t.numpy().tobytes() for t in tensors)])),
            "device": "cpu",
            "vocab_size": dataset.vocab_size,
            "text": Text.make(rows, dataset.token_bytes),
            "training": lambda count: training[:count].astype(np.int32),
            "tolerance": TOLERANCE,
            "stop": threading.Event(),
        }
        return judge_weights(Work(**{**values, **(work or {})}))

    yield go
    assert not list(folder.glob("*/")), "judging left its folder"


@pytest.fixture
def run(
    configure: Callable[..., Config],
    dataset: Dataset,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., TrialResult]]:
    """Return a function that runs a train.py for a moment in the sandbox and gives its result.

    A busy machine may take a minute to hand in, where a test says nothing of it.
    """
    monkeypatch.setattr(gpt_executor, "_FIRST_ALLOWANCE_SECONDS", 60.0)

    def go(
        text: str,
        *,
        spec: dict[str, Any] | None = None,
        executor: dict[str, Any] | GptExecutor | None = None,
        on_progress: Any = None,
        stop: Any = None,
        within: Sandbox = sandbox,
        **settings: Any,
    ) -> TrialResult:
        config = configure(**settings)
        if not isinstance(executor, GptExecutor):
            executor = GptExecutor(
                config, dataset, within, scratch=tmp_path / "trials", **(executor or {})
            )
        values: dict[str, Any] = {
            "files": {"train.py": text.encode()},
            "seed": 3,
            "budget_seconds": config.trial.budget_seconds,
            "label": "1-1",
            **(spec or {}),
        }
        return executor.run(TrialSpec(**values), on_progress=on_progress, stop=stop)

    yield go
    assert not list((tmp_path / "trials").glob("*/")), "a trial left its folder"
