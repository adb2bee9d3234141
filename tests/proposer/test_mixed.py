"""Mixes and outages: `pytest tests/proposer/test_mixed.py`."""

import re
import threading
from collections.abc import Callable
from typing import get_args

import pytest
from proposer_sample import TRAIN, context

from autoresearch.config import Config, load_config
from autoresearch.errors import ConfigError, PrerequisiteError
from autoresearch.events import Alerted
from autoresearch.proposer.base import (
    CancelledError,
    Context,
    CostLimitError,
    EditFailedError,
    ProposerUnavailableError,
)
from autoresearch.proposer.fallback import Mixed, WithFallback
from autoresearch.proposer.llm.proposer import LlmProposer
from autoresearch.proposer.registry import KINDS, make_proposer
from autoresearch.proposer.search.proposer import SearchProposer
from autoresearch.types import ConfiguredProposer, Proposal, Usage

NEVER = threading.Event()


class Scripted:
    """Answers with what it was given, in turn."""

    def __init__(self, kind: str, *answers: object) -> None:
        self.kind = kind
        self.name = kind
        self.answers = list(answers)
        self.asked: list[Context] = []

    def propose(self, given: Context, stop: threading.Event) -> Proposal:
        self.asked.append(given)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]

    def check(self) -> str:
        return f"{self.kind}: fine"


def idea(kind: str, cost: float = 0.0) -> Proposal:
    usage = Usage(num_calls=1, cost_usd=cost) if cost else Usage()
    return Proposal(
        description=f"by {kind}",
        files={"train.py": TRAIN},
        parent="0" * 40,
        proposer=kind,
        usage=usage,
    )  # type: ignore[arg-type]


def out(seconds: float | None, cost: float = 0.0) -> ProposerUnavailableError:
    usage = Usage(num_calls=1, cost_usd=cost or None)
    return ProposerUnavailableError("`m` is down", hint="wait", retry_seconds=seconds, usage=usage)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()

    def wait(self: threading.Event, seconds: float | None = None) -> bool:
        made.now += seconds or 0.0
        return False

    monkeypatch.setattr(threading.Event, "wait", wait)
    return made


def test_the_draw_follows_shares_and_seed() -> None:
    mixed = Mixed(
        {"llm": Scripted("llm"), "search": Scripted("search")}, {"search": 0.7, "llm": 0.3}
    )
    draws = [mixed.draw(7, n) for n in range(2000)]
    assert 0.25 < draws.count("llm") / 2000 < 0.35
    assert draws == [Mixed({}, {"llm": 0.3, "search": 0.7}).draw(7, n) for n in range(2000)]
    assert draws != [mixed.draw(8, n) for n in range(2000)]


def test_a_mix_asks_who_is_next_and_checks_all() -> None:
    members = {kind: Scripted(kind, idea(kind)) for kind in ("llm", "search")}
    mixed = Mixed(members, {"llm": 0.5, "search": 0.5})
    for number in range(10):
        given = context(number=number)
        assert mixed.propose(given, NEVER).proposer == mixed.draw(given.session.seed, number)
    assert mixed.check() == "llm: fine; search: fine"


class Unchecked(Scripted):
    """Fails its check as told."""

    def __init__(self, kind: str, problem: Exception) -> None:
        super().__init__(kind)
        self.problem = problem

    def check(self) -> str:
        raise self.problem


def test_an_outage_hides_nothing_that_another_lacks() -> None:
    down, other = Unchecked("llm", out(5.0)), Unchecked("llm", out(6.0))
    missing = Unchecked("command", PrerequisiteError("`x` is not on the PATH"))

    def chain(*members: Scripted) -> WithFallback | Scripted:
        first, *rest = members
        return WithFallback(first, chain(*rest), 600) if rest else first

    def mix(*members: Scripted) -> Mixed:
        by_kind = {f"{n}": member for n, member in enumerate(members)}
        return Mixed(by_kind, dict.fromkeys(by_kind, 0.5))

    for both in (mix(down, missing), chain(down, missing, Scripted("search"))):
        with pytest.raises(PrerequisiteError, match="not on the PATH"):
            both.check()
    for both in (mix(down, other, Scripted("search")), chain(down, other, Scripted("search"))):
        with pytest.raises(ProposerUnavailableError) as raised:
            both.check()
        assert raised.value is down.problem


def test_a_short_trouble_is_waited_for(clock: Clock) -> None:
    first = Scripted("llm", out(5.0), out(10.0), idea("llm"))
    p = WithFallback(first, Scripted("search"), 600, clock=clock).propose(context(), NEVER)
    assert p.proposer == "llm"
    assert p.usage.num_calls == 2
    assert clock.now == pytest.approx(1015.0)


def test_a_long_one_hands_over_and_back(clock: Clock) -> None:
    told: list[str] = []
    first = Scripted("llm", *[out(60.0)] * 12, idea("llm"))
    both = WithFallback(
        first, Scripted("search", idea("search")), 600, lambda alert: told.append(alert.text), clock
    )
    assert both.propose(context(), NEVER).proposer == "search"
    assert clock.now == pytest.approx(1600.0)
    asked = len(first.asked)
    assert both.propose(context(), NEVER).proposer == "search"
    clock.now += 61
    assert both.propose(context(), NEVER).proposer == "search"
    assert len(first.asked) > asked
    clock.now += 61
    assert both.propose(context(), NEVER).proposer == "llm"
    assert told == [
        "`m` is down: it is asked again, search proposes in 10 min",
        "`m` is down: search proposes meanwhile (wait)",
        "llm answers again",
    ]


@pytest.mark.parametrize("seconds", [600.0, None])
def test_what_needs_a_person_hands_over_at_once(clock: Clock, seconds: float | None) -> None:
    first = Scripted("llm", out(seconds))
    both = WithFallback(first, Scripted("search", idea("search")), 600, clock=clock)
    assert both.propose(context(), NEVER).proposer == "search"
    assert clock.now == 1000.0
    assert both.propose(context(), NEVER).proposer == "search"
    assert len(first.asked) == 1


def test_costs_of_failed_calls_are_not_lost(clock: Clock) -> None:
    first = Scripted("llm", out(5.0, 0.25), idea("llm", 0.5))
    p = WithFallback(first, Scripted("search"), 600, clock=clock).propose(
        context(cost_left_usd=1.0), NEVER
    )
    assert p.usage.cost_usd == pytest.approx(0.75)
    assert first.asked[1].cost_left_usd == pytest.approx(0.75)
    useless = EditFailedError("no", reason="edit_failed", proposal=idea("llm", 0.5))
    first = Scripted("llm", out(5.0, 0.25), useless)
    with pytest.raises(EditFailedError) as raised:
        WithFallback(first, Scripted("search"), 600, clock=clock).propose(context(), NEVER)
    assert raised.value.proposal.usage.cost_usd == pytest.approx(0.75)


def test_an_outage_at_first_contact_is_told_and_over_when_it_answers(clock: Clock) -> None:
    class Away(Scripted):
        def check(self) -> str:
            raise out(5.0)

    told: list[Alerted] = []
    first = Away("llm", idea("llm"))
    both = WithFallback(first, Scripted("search"), 600, told.append, clock)
    with pytest.raises(ProposerUnavailableError, match="`m` is down"):
        both.check()
    assert [alert.text for alert in told] == [
        "`m` is down: it is asked again, search proposes in 10 min"
    ]
    assert both.propose(context(), NEVER).proposer == "llm"
    assert clock.now == pytest.approx(1005.0)
    assert (told[-1].text, told[-1].is_over) == ("llm answers again", True)


def test_the_cost_limit_is_no_outage(clock: Clock) -> None:
    first = Scripted("llm", out(5.0, 0.25), CostLimitError("spent", retry_seconds=None))
    with pytest.raises(CostLimitError) as raised:
        WithFallback(first, Scripted("search"), 600, clock=clock).propose(context(), NEVER)
    assert raised.value.usage.cost_usd == 0.25


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(30, "Read-only file system"), r"OSError: \[Errno 30\] Read-only file system \("),
        (KeyError("x"), r"KeyError: 'x' \(test_mixed.py:\d+\)"),
        (PrerequisiteError("no sandbox", hint="install it"), "no sandbox"),
    ],
)
def test_what_nobody_foresaw_is_told_and_handed_over(
    clock: Clock, error: Exception, said: str
) -> None:
    told: list[str] = []
    first = Scripted("llm", out(5.0, 0.25), error)
    second = Scripted("search", idea("search"))
    both = WithFallback(first, second, 600, lambda alert: told.append(alert.text), clock)
    p = both.propose(context(), NEVER)
    assert (p.proposer, p.usage.cost_usd) == ("search", 0.25)
    assert re.search(rf"llm failed: {said}.*: search proposes meanwhile", told[-1])


def test_both_silent(clock: Clock) -> None:
    nothing = ProposerUnavailableError("nothing to search", retry_seconds=None)
    both = WithFallback(Scripted("llm", out(600.0)), Scripted("search", nothing), 0, clock=clock)
    with pytest.raises(ProposerUnavailableError, match="nothing to search") as raised:
        both.propose(context(), NEVER)
    assert raised.value.retry_seconds == pytest.approx(600.0)


def test_a_stop_ends_the_wait() -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(CancelledError):
        WithFallback(Scripted("llm", out(60.0)), Scripted("search"), 600).propose(context(), stop)


def configured(**more: object) -> Config:
    base = load_config(None).config
    return base.model_copy(update={"proposer": base.proposer.model_copy(update=more)})


@pytest.mark.parametrize(
    ("settings", "holds"),
    [
        ({"kind": "search"}, lambda p: isinstance(p, SearchProposer)),
        (
            {"kind": "llm", "model": "openai/x"},
            lambda p: isinstance(p, WithFallback) and isinstance(p.first, LlmProposer),
        ),
        ({"kind": "command", "command": ["claude"]}, lambda p: p.kind == "command"),
        (
            {"mix": {"search": 0.7, "llm": 0.3}},
            lambda p: isinstance(p, Mixed) and set(p.members) == {"search", "llm"},
        ),
    ],
)
def test_made_as_configured(settings: dict[str, object], holds: Callable[[object], bool]) -> None:
    assert holds(make_proposer(configured(**settings)))


def test_a_mix_without_shares_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`proposer.mix`: no share is above 0"):
        load_config(None, {"proposer.mix": {"llm": 0.0}})
    mix = load_config(None, {"proposer.mix": {"llm": 0.0, "search": 1.0}}).config
    made = make_proposer(mix)
    assert isinstance(made, Mixed)
    assert set(made.members) == {"search"}


def test_every_kind_that_can_be_configured_has_a_row() -> None:
    assert set(KINDS) == set(get_args(ConfiguredProposer))
