"""What makes numbers comparable: which settings make another setup, and which old setups stay what they were."""

from types import SimpleNamespace
from typing import Any

import pytest

from autoresearch.config import Config, load_config
from autoresearch.errors import PrerequisiteError
from autoresearch.machine import hardware
from autoresearch.record.fold import make
from autoresearch.session import build
from autoresearch.session.build import check_setup
from autoresearch.tasks.gpt.task import make_setup
from autoresearch.types import Session, Setup

OLD = Setup("gpu", "2.13", "1", 300.0, "data", "1", 2048, 1000, "cudnn+varlen")
DATASET: Any = SimpleNamespace(key="data")


def configured(context: int) -> Config:
    base = load_config(None).config
    return base.model_copy(update={"judge": base.judge.model_copy(update={"context": context})})


def test_a_setup_recorded_before_its_context_was_is_still_the_same() -> None:
    fields = {name: value for name, value in vars(OLD).items() if name != "context"}
    assert make(Setup, fields) == OLD
    assert OLD.key == "215343d97a8d"


def test_another_context_of_judging_is_another_setup() -> None:
    machine = hardware.describe("cpu")
    full, short = (make_setup(configured(context), DATASET, machine) for context in (2048, 512))
    assert full.context == 0, "as long as the longest: what sessions without the field have"
    assert full.key != short.key
    lab: Any = SimpleNamespace(setup=short)
    with pytest.raises(PrerequisiteError, match=r"another setup: context: 2048 -> 512$"):
        check_setup(Session("t", "b", setup=full), lab, is_rebaseline=False)
    check_setup(Session("t", "b", setup=short), lab, is_rebaseline=False)


def test_the_device_of_the_trials_makes_the_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def describe(device: str = "auto") -> hardware.Hardware:
        asked.append(device)
        raise PrerequisiteError("far enough")

    base = load_config(None).config
    config = base.model_copy(update={"trial": base.trial.model_copy(update={"device": "cpu"})})
    monkeypatch.setattr("autoresearch.machine.hardware.describe", describe)
    monkeypatch.setattr("autoresearch.tasks.gpt.data.prepare.open_dataset", lambda _: DATASET)
    loaded: Any = SimpleNamespace(config=config)
    with pytest.raises(PrerequisiteError, match="far enough"):
        build.assemble(SimpleNamespace(), loaded)  # type: ignore[arg-type]
    assert asked == ["cpu"]
