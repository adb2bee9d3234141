"""What `run` says it will do and cost, the cap on money, and the line that resumes with what is left of the limits."""

import shlex
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from autoresearch.commands.run import run
from autoresearch.config import load_config
from autoresearch.errors import ConfigError
from autoresearch.proposer.registry import check_cap
from autoresearch.session.context import Limits
from autoresearch.session.plan import plan
from autoresearch.types import Experiment, Session, State, Usage, Verdict
from autoresearch.ui.summary import next_step, resume_command

NOW = datetime(2026, 1, 2, 23, 0).astimezone()


def experiment(number: int, verdict: Verdict | None, cost: float | None = None) -> Experiment:
    return Experiment(
        number=number,
        commit="c",
        parent="p",
        state=State.JUDGED if verdict else State.PROPOSED,
        verdict=verdict,
        usage=Usage(cost_usd=cost),
        description="an idea",
        proposer="llm",
    )


def session(**fields: Any) -> Session:
    known: dict[str, Any] = {"tag": "t", "branch": "autoresearch/t", "proposer": "llm"}
    return Session(**{**known, **fields})


EIGHT = {"seconds": 8 * 3600.0, "experiments": 6, "max_cost_usd": 10.0, "first_number": 3}
JUDGED = tuple(experiment(n, Verdict.DISCARD) for n in range(5))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, ""),
        ({"flags": ["--proposer", "a b/c", "--no-confirm"]}, " --proposer 'a b/c' --no-confirm"),
        (
            {
                "limits": {**EIGHT, "seconds_before": 3600.0},
                "wall_seconds": 2 * 3600.0,
                "ended_at": "x",
            },
            " --hours 7.00 --experiments 4 --max-cost 10",
        ),
        (
            {"limits": EIGHT, "wall_seconds": 9 * 3600.0},
            " --hours 0.01 --experiments 6 --max-cost 10",
        ),
        (
            {"limits": EIGHT, "flags": ["--until", "07:00"]},
            " --until 07:00 --hours 8.00 --experiments 6 --max-cost 10",
        ),
        (
            {"limits": {**EIGHT, "experiments": 2}, "ended_at": "x", "proposer": "search"},
            " --hours 8.00 --experiments 1",
        ),
    ],
)
def test_the_line_that_resumes(fields: dict[str, Any], line: str) -> None:
    found = session(experiments=JUDGED, **fields)
    assert resume_command(found) == f"autoresearch run --tag t{line}"
    known = set(run.__annotations__)
    for word in shlex.split(line):
        if word.startswith("--") and word != "--no-confirm":
            assert word[2:].replace("-", "_") in known
    for state in ("dead", "interrupted"):
        assert next_step(replace(found, state=state))[0] == resume_command(found)


@pytest.mark.parametrize(
    ("settings", "is_enforced"),
    [
        ({"kind": "search"}, True),
        ({"kind": "llm", "model": "openai/gpt-5"}, True),
        ({"kind": "llm", "model": "ollama_chat/anything"}, True),
        ({"kind": "llm", "model": "openai/not-known-to-anyone"}, False),
        ({"kind": "llm", "model": "openai/not-known", "price_in": 1, "price_out": 2}, True),
        ({"kind": "llm", "model": "openai/gpt-5", "fallback_models": ["openai/not-known"]}, False),
        ({"mix": {"search": 0.5, "llm": 0.5}, "model": "openai/not-known"}, False),
        ({"kind": "command", "command": ["claude"]}, True),
        ({"kind": "command", "command": ["codex"]}, False),
        ({"kind": "command", "command": ["codex"], "price_in": 1, "price_out": 2}, True),
        ({"kind": "command", "command": ["./agent.sh"]}, False),
    ],
)
def test_a_cap_that_cannot_be_enforced_is_refused(
    settings: dict[str, Any], is_enforced: bool
) -> None:
    overrides = {f"proposer.{name}": value for name, value in settings.items()}
    check_cap(load_config(None, overrides).config)
    capped = load_config(None, {**overrides, "session.max_cost": 1.0}).config
    if is_enforced:
        check_cap(capped)
    else:
        with pytest.raises(ConfigError, match="so `--max-cost 1` cannot be enforced"):
            check_cap(capped)


SPENT = tuple(experiment(n, Verdict.DISCARD, 0.05 if n else None) for n in range(5))


@pytest.mark.parametrize(
    ("fields", "settings", "limits", "parts"),
    [
        (
            {},
            {},
            Limits(seconds=8 * 3600),
            ["at most 74 experiments until 07:00",
             "about 70 of their trials for ideas, the rest measures", "each about 5m35s", "proposals cost nothing",
             "a gain is confirmed on fresh seeds at the end from 06:15, 44m40s"],
        ),
        ({}, {}, Limits(seconds=3600), ["at most 7 experiments until 00:00", "too short for a conf"]),
        ({}, {}, Limits(experiments=2), ["at most 2 experiments in 27m55s"]),
        ({}, {}, Limits(), ["experiments until Ctrl-C or `autoresearch stop`: no limit was given"]),
        (
            {},
            {"kind": "llm", "model": "a/b"},
            Limits(experiments=3, max_cost_usd=2),
            ["the first call costs at most $0.17", "; at most $2.00"],
        ),
        (
            {"experiments": SPENT},
            {"kind": "llm", "model": "a/b"},
            Limits(experiments=10),
            ["a proposal costs about $0.05, about $0.50 in all", "no limit of cost (`--max-cost`)"],
        ),
        (
            {"experiments": SPENT},
            {"kind": "llm", "model": "a/b"},
            Limits(max_cost_usd=10),
            ["a proposal costs about $0.05;", "at most $10.00, of which $0.20 are spent"],
        ),
    ],
)  # fmt: skip
def test_the_plan(
    fields: dict[str, Any], settings: dict[str, Any], limits: Limits, parts: list[str]
) -> None:
    config = load_config(None, {f"proposer.{k}": v for k, v in settings.items()}).config
    text = plan(
        session(**fields), config, limits,
        is_confirming=True, is_measured=False, first_call_usd=0.17, now=NOW,
    )  # fmt: skip
    for part in parts:
        assert part in text
