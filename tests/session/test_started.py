"""What the record says of the conditions under which a run began."""

from types import SimpleNamespace
from typing import Any

import pytest

from autoresearch.config import Loaded, load_config
from autoresearch.events import SessionStarted
from autoresearch.session.context import Limits
from autoresearch.session.run import RunOptions, started_event
from autoresearch.tasks.gpt import METRIC
from autoresearch.types import Setup


@pytest.mark.parametrize(
    ("settings", "proposer", "model"),
    [
        ({}, "search", ""),
        ({"kind": "llm"}, "llm", "foo/bar"),
        ({"mix": {"search": 0.5, "llm": 0.5}}, "search and llm", "foo/bar"),
        ({"mix": {"search": 1.0, "llm": 0.0}, "kind": "llm"}, "search", ""),
        ({"kind": "command", "command": ["./agent.sh"]}, "command", ""),
        ({"kind": "command", "command": ["claude"]}, "command", "foo/bar"),
    ],
)
def test_a_model_is_recorded_where_one_proposes(
    settings: dict[str, Any], proposer: str, model: str
) -> None:
    overrides = {f"proposer.{name}": value for name, value in settings.items()}
    event = _started({**overrides, "proposer.model": "foo/bar"})
    assert (event.proposer, event.model) == (proposer, model)


def test_the_address_to_notify_is_not_recorded() -> None:
    command = ["curl", "-d", "@-", "ntfy.example/my-secret-topic"]
    event = _started({"session.notify": command, "session.hours": 2.0})
    assert event.config == {"session.notify": ["curl", "..."], "session.hours": 2.0}


def _started(overrides: dict[str, Any]) -> SessionStarted:
    config = load_config(None, overrides).config
    lab: Any = SimpleNamespace(
        config=config,
        loaded=Loaded(config, {}),
        setup=Setup("cpu", "2.13", "", 2.0, "text", "1", 128, 1000),
        sandbox=SimpleNamespace(name="bubblewrap"),
        is_unsafe=False,
        metric=METRIC,
        task=SimpleNamespace(
            facts={"data": {}, "trivial_score": 2.0, "is_validation_visible": False}
        ),
        hardware=SimpleNamespace(to_json=dict),
    )
    record: Any = SimpleNamespace(tag="t", tip=lambda: "c0")
    return started_event(lab, record, RunOptions(Limits()), 1)
