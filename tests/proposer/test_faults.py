"""Every proposer with every fault at every call of a conversation: `pytest tests/proposer/test_faults.py`.

A quarter of an hour by a clock that is turned by hand; the server, the agent and all that proposes are real.
"""

import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from openai_server import Say, events, serve
from proposer_sample import context
from test_llm import GOOD, USELESS

from autoresearch.config import load_config
from autoresearch.proposer import registry
from autoresearch.proposer.agent import proposer as agent
from autoresearch.proposer.agent.process import AgentRun, run_agent
from autoresearch.proposer.base import EditFailedError, ProposerUnavailableError
from autoresearch.proposer.fallback import WithFallback
from autoresearch.proposer.llm.provider import Provider, import_litellm
from autoresearch.sandbox import Command
from autoresearch.types import Usage

LONG, TRIAL_SECONDS = 1000.0, 120.0
IN_A_MINUTE = 5
"""Calls at most in a minute in which no proposal came and no alert."""
IN_ALL = 30

STATUSES = (400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529)
SLOW = Say(GOOD, seconds_before=60)
SAYINGS = {
    **{str(status): Say(status=status) for status in STATUSES},
    "no credit": Say(status=429, error="You exceeded your quota", code="insufficient_quota"),
    "policy": Say(status=400, error="rejected", code="content_policy_violation"),
    "too long": Say(status=400, error="This model's maximum context length is 9", code="context_length_exceeded"),
    "timeout": SLOW,
    "cut stream": Say(GOOD, is_broken_off=True),
    "empty": Say(""),
    "error with 200": Say(raw=b'{"error": {"message": "overloaded", "code": 503}}'),
    "error in the stream": Say(
        raw=b'data: {"error": {"message": "overloaded"}}\n\n', kind="text/event-stream"
    ),
    "page": Say(raw=b"<html>Sign in</html>", kind="text/html"),
    "refusal": Say("I cannot help with that."),
    "only thought": Say(raw=events({"content": "<think>hm"}, finish="length"), kind="text/event-stream"),
}  # fmt: skip
LATER = ("402", "429", "500", "no credit", "timeout", "cut stream", "empty", "refusal")
"""One of each kind: all others come later in a conversation in the slow tests alone."""
EDIT = "sed 's/0.04 /0.02 /' train.py > new && mv new train.py"
DEEDS = {
    "exit 1": "echo boom >&2; exit 1",
    "exit 1 after an edit": f"{EDIT}; exit 1",
    "exit 0 with its own error": f"""{EDIT}; echo '{{"type":"result","is_error":true,"result":"Credit"}}'""",
    "a turn begun": """echo '{"type":"turn.started"}'""",
    "no edit": "echo 'Credit balance is too low'",
    "killed": "kill -9 $$",
    "not there": "exit 127",
    "timeout": "sleep 60",
}


@dataclass
class Night:
    """What happened when, by a clock that only waits and trials turn."""

    now: float = 0.0
    events: list[tuple[float, str]] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    """When a conversation began."""
    is_healed: bool = False

    def note(self, what: object) -> None:
        self.events.append((self.now, what if isinstance(what, str) else "alert"))

    def call(self, position: int, at: int) -> str:
        """Note the call at a position of its conversation, and return how it is answered."""
        self.note("call")
        if position == 1 and self.now not in self.starts:
            self.starts.append(self.now)
        if self.is_healed:
            return "good"
        return "fault" if position >= at else "useless"

    def wait(self, seconds: float | None = None) -> bool:
        self.now += seconds or 0.0
        return False

    def most_in_a_minute(self) -> int:
        """Return the most calls within a minute, and with nothing to show or to read between them."""
        most, row = 0, list[float]()
        for when, what in self.events:
            row = [*(t for t in row if when - t < 60), when] if what == "call" else []
            most = max(most, len(row))
        return most


@pytest.fixture
def night(monkeypatch: pytest.MonkeyPatch) -> Night:
    made = Night()
    monkeypatch.setattr(registry, "WithFallback", partial(WithFallback, clock=lambda: made.now))
    return made


def live(night: Night, **settings: Any) -> Usage:
    """Ask for proposals as the loop does until the fault is over; return what all cost."""
    base = load_config(None).config
    values = {"timeout_seconds": 60.0, **settings}
    config = base.model_copy(update={"proposer": base.proposer.model_copy(update=values)})
    proposer = registry.make_proposer(config, notify=night.note)
    stop = threading.Event()
    stop.wait = night.wait  # type: ignore[method-assign]
    spent, number = Usage(), 0
    while night.now < LONG or (number < 40 and night.events[-1][1] != f"by {settings['kind']}"):
        if night.now >= LONG and not night.is_healed:
            night.is_healed = True
            night.wait(1200.0)
        number += 1
        try:
            proposal = proposer.propose(context(number=number), stop)
        except ProposerUnavailableError as exc:
            spent = spent + exc.usage
            night.note("alert")
            night.wait(exc.retry_seconds)
        except EditFailedError as exc:
            spent = spent + exc.proposal.usage
            night.note("discard")
        else:
            spent = spent + proposal.usage
            night.note(f"by {proposal.proposer}")
            night.wait(TRIAL_SECONDS)
    return spent


def check(night: Night, usage: Usage, kind: str) -> None:
    said = [what for _, what in night.events]
    assert "discard" not in said, "no experiment is used up"
    assert said[-1] == f"by {kind}", "it is asked again"
    assert "alert" in said
    assert usage.num_calls == said.count("call"), "every call is booked"
    assert said.count("call") <= IN_ALL
    assert night.most_in_a_minute() <= IN_A_MINUTE
    gaps = [b - a for a, b in pairwise(t for t in night.starts if t < LONG)]
    assert all(b >= 0.75 * a - TRIAL_SECONDS for a, b in pairwise(gaps)), f"waits shrink: {gaps}"
    assert max(gaps) >= 160, f"waits do not grow: {gaps}"


@pytest.mark.parametrize(
    ("fault", "at"),
    # A prompt that is too long begins its conversation again: with useless answers that is a discard, and rightly.
    [
        pytest.param(fault, at, marks=[pytest.mark.slow] * (at > 1 and fault not in LATER))
        for fault in SAYINGS
        for at in (1, 2, 3)
        if at == 1 or fault != "too long"
    ],
)
@pytest.mark.parametrize(
    "mix",
    [
        pytest.param({}, id="llm"),
        pytest.param({"llm": 0.5, "search": 0.5}, id="mix", marks=pytest.mark.slow),
    ],
)
def test_a_model(
    night: Night, monkeypatch: pytest.MonkeyPatch, mix: dict[str, float], fault: str, at: int
) -> None:
    import_litellm()
    say = SAYINGS[fault]

    def position(messages: Any) -> int:
        return len(messages) // 2

    def answer(_: int, body: dict[str, Any]) -> Say:
        what = night.call(position(body["messages"]), at)
        return {"good": Say(GOOD), "useless": Say(USELESS), "fault": say}[what]

    real = Provider._call

    def call(self: Provider, messages: Any, limit: int, seconds: float, given_up: Any) -> Any:
        is_slow = say is SLOW and position(messages) >= at and not night.is_healed
        return real(self, messages, limit, 0.2 if is_slow else seconds, given_up)

    monkeypatch.setattr(Provider, "_call", call)
    with serve(answer) as server:
        usage = live(
            night, kind="llm", model="openai/m", api_base=server.url, price_in=1.0, price_out=4.0, mix=mix
        )  # fmt: skip
    check(night, usage, "llm")
    assert 0 < (usage.cost_usd or 0.0) <= 0.08 * usage.num_calls


@pytest.mark.parametrize("at", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fault", DEEDS)
def test_an_agent(night: Night, monkeypatch: pytest.MonkeyPatch, fault: str, at: int) -> None:
    runs: Counter[str | None] = Counter()

    def run(command: Command, prompt: str, stop: threading.Event, _: float) -> AgentRun:
        runs[command.cwd] += 1
        what = night.call(runs[command.cwd], at)
        deed = {"good": EDIT, "useless": "rm train.py", "fault": DEEDS[fault]}[what]
        given = replace(command, env={**command.env, "DEED": deed})
        is_slow = fault == "timeout" and what == "fault"
        return run_agent(given, prompt, stop, 0.2 if is_slow else 60.0)

    monkeypatch.setattr(agent, "run_agent", run)
    command = ["sh", "-c", 'cat > /dev/null; eval "$DEED"']
    check(night, live(night, kind="command", command=command), "command")


def test_the_search_asks_nobody(night: Night) -> None:
    live(night, kind="search")
    assert {what for _, what in night.events} == {"by search"}
