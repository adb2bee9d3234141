"""The templates in real trials: train, claim and audit in processes of their own."""

import os

import pytest

from autoresearch.bootstrap import presets
from autoresearch.types import Outcome

TINY = {
    "DEPTH": 2,
    "WIDTH": 64,
    "NUM_HEADS": 2,
    "HEAD_SIZE": 32,
    "SHORT_WINDOW": 16,
    "CONTEXT": 64,
    "ROWS": 4,
    "ACCUMULATE": 1,
}


def gpt(**constants):
    files = presets.render("gpt", "cpu")
    files["train.py"] = presets.set_constants(files["train.py"], {**TINY, **constants})
    return files


def test_the_gpt_template_trains_and_is_judged(run_trial, prepared):
    files = gpt()
    loop = "enumerate(trial.batches(ROWS, CONTEXT)):"
    assert loop in files["train.py"]
    files["train.py"] = files["train.py"].replace(loop, f"zip(range(100), {loop[10:-2]}):")
    result = run_trial(files, trial__budget_seconds=60.0)
    assert result.outcome is Outcome.OK, result.detail + result.log_tail
    assert result.num_steps == 100
    assert result.score < 0.9 * prepared[1].unigram_bpb
    assert result.num_audited > 50
    assert abs(result.extra["max_difference"]) < 1e-3


def test_a_constant_that_does_not_fit_is_told_in_one_sentence(run_trial):
    result = run_trial(gpt(CONTEXT=128))
    assert result.outcome is Outcome.CRASH
    assert "CONTEXT must be at most 64, got 128" in result.detail


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_flat_script_of_upstreams_shape_trains_and_is_judged(run_trial, prepared):
    files = presets.render("compat", "cpu")
    assert "def build_model" not in files["train.py"]
    files["train.py"] = files["train.py"].replace("if progress >= 1.0:", "if step >= 20:")
    result = run_trial(files, trial__budget_seconds=60.0)
    assert result.outcome is Outcome.OK, result.detail + result.log_tail
    assert result.num_steps == 21  # it asks for one more than it takes
    assert result.train_seconds < 60
    assert result.num_params > 100_000
    assert result.score < 1.5 * prepared[1].unigram_bpb


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_flat_script_that_goes_on_ends_with_the_data(run_trial, unjudged):
    files = presets.render("compat", "cpu")
    files["train.py"] = files["train.py"].replace("if progress >= 1.0:", "if False:")
    result = run_trial(files)
    assert result.outcome is Outcome.OK, result.detail + result.log_tail
    assert result.train_seconds >= 1.5


def test_what_a_flat_script_cannot_have_is_said(run_trial):
    files = presets.render("compat", "cpu")
    files["train.py"] = files["train.py"].replace(
        "tokenizer = Tokenizer.from_directory()",
        "tokenizer = Tokenizer.from_directory()\ntokenizer.encode('text')",
    )
    result = run_trial(files)
    assert result.outcome is Outcome.CRASH
    assert "a trial has no text to encode" in result.detail


@pytest.mark.slow
def test_the_cpu_preset_clearly_learns_in_15_seconds(tmp_path, monkeypatch):
    """The promise for two free cores: a quarter below what token frequencies give."""
    if os.getloadavg()[0] > 0.75 * (os.cpu_count() or 1):
        pytest.skip("this machine is busy with other work")
    from autoresearch.config import load_config
    from autoresearch.sandbox import NoSandbox
    from autoresearch.tasks.gpt.data.prepare import open_dataset, prepare
    from autoresearch.tasks.gpt.executor import GptExecutor
    from autoresearch.types import TrialSpec

    monkeypatch.setenv("AUTORESEARCH_CACHE_DIR", str(tmp_path / "cache"))
    files = presets.render("gpt", "cpu")
    settings = {
        f"{section}.{key}": value
        for section, table in presets.load_preset("cpu").settings.items()
        for key, value in table.items()
    }
    settings |= {"trial.budget_seconds": 15.0, "data.max_bytes": 20_000_000}
    config = load_config(None, settings).config
    prepare(config)
    dataset = open_dataset(config)
    executor = GptExecutor(config, dataset, NoSandbox(), scratch=tmp_path / "trials")
    spec = TrialSpec(
        files={"train.py": files["train.py"].encode()}, seed=0, budget_seconds=15.0, label="0-1"
    )
    result = executor.run(spec)
    assert result.outcome is Outcome.OK, result.detail + result.log_tail
    assert result.score < 0.75 * dataset.unigram_bpb
