"""The llm proposer against a loopback server, through real litellm: `pytest tests/proposer/test_llm.py`."""

import inspect
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import pytest
from openai_server import Say, completion, events, serve, tokens_of
from proposer_sample import TRAIN, context, experiment, session

from autoresearch.config import ProposerConfig, load_config
from autoresearch.errors import PrerequisiteError
from autoresearch.events import Alerted
from autoresearch.proposer import registry
from autoresearch.proposer.base import (
    CancelledError,
    CostLimitError,
    EditFailedError,
    Proposer,
    ProposerUnavailableError,
)
from autoresearch.proposer.cost import Ledger
from autoresearch.proposer.edits import describe, identity
from autoresearch.proposer.llm import errors
from autoresearch.proposer.llm import proposer as llm
from autoresearch.proposer.llm.proposer import LlmProposer
from autoresearch.proposer.llm.provider import Provider, import_litellm, is_local
from autoresearch.proposer.registry import make_proposer, model_settings
from autoresearch.types import Usage, Verdict
from autoresearch.util.text import redact

NEVER = threading.Event()
PRICES = {"price_in": 1.0, "price_out": 4.0}


@pytest.fixture(scope="module", autouse=True)
def _litellm() -> None:
    """Its import takes seconds, which are none of the waits measured here."""
    import_litellm()


def reply(old: str, new: str) -> str:
    return (
        "HYPOTHESIS: smaller steps\nEXPECTED EFFECT: -0.001\nDESCRIPTION: change it\nTHEME: Optimizer\n"
        f"NOTE: remember\nFILE: train.py\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n"
    )


USELESS = reply("nothing like it", "x")
LINE = "EMBEDDING_LR = 6e-1     # AdamW"
GOOD = reply(LINE, "EMBEDDING_LR = 3e-1     # AdamW")


def config(url: str, **more: Any) -> ProposerConfig:
    base = load_config(None).config.proposer
    values = {
        "kind": "llm",
        "model": "openai/loopback",
        "api_base": url,
        "timeout_seconds": 20.0,
        **PRICES,
    }
    return base.model_copy(update={**values, **more})


def test_a_proposal_with_its_cost() -> None:
    with serve(Say(GOOD, tokens_cached=600)) as server:
        p = LlmProposer(config(server.url)).propose(context(), NEVER)
    assert p.files["train.py"] == TRAIN.replace("6e-1 ", "3e-1 ")
    assert (p.proposer, p.description, p.theme, p.note) == (
        "llm",
        "change it",
        "optimizer",
        "remember",
    )
    assert p.parameters == {"EMBEDDING_LR": 0.3}
    assert p.usage.num_calls == 1
    assert (p.usage.tokens_in, p.usage.tokens_cached) == (1000, 600)
    assert p.usage.tokens_out == tokens_of(GOOD)
    assert p.usage.cost_usd == pytest.approx((1000 * 1 + 4 * tokens_of(GOOD)) / 1e6)
    assert b"EMBEDDING_LR = 6e-1" in p.attachments["prompt.md"]
    assert b"EMBEDDING_LR = 3e-1" in p.attachments["reply.md"]


def test_the_request_is_what_was_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-mine-123456")
    with serve(Say(GOOD)) as server:
        LlmProposer(config(server.url, api_key_env="MY_KEY")).propose(context(), NEVER)
    request = server.requests[0]
    assert request["model"] == "loopback"
    assert request["stream"] is True
    assert "temperature" not in request
    assert request["max_tokens"] == 16384
    assert server.keys == ["Bearer sk-mine-123456"]
    assert TRAIN in server.prompt()


def test_a_price_litellm_knows() -> None:
    with serve(Say(GOOD)) as server:
        settings = config(server.url, model="openai/gpt-4o-mini", price_in=-1.0, price_out=-1.0)
        p = LlmProposer(settings).propose(context(), NEVER)
    assert p.usage.cost_usd == pytest.approx((1000 * 0.15 + tokens_of(GOOD) * 0.6) / 1e6)


def test_an_unknown_price_is_said_once() -> None:
    told: list[Alerted] = []
    with serve(Say(GOOD)) as server:
        settings = config(server.url, price_in=-1.0, price_out=-1.0)
        proposer = LlmProposer(settings, notify=told.append)
        first = proposer.propose(context(cost_left_usd=0.0001), NEVER)
        proposer.propose(context(), NEVER)
    assert first.usage.cost_usd is None
    assert first.usage.tokens_in == 1000
    assert len(told) == 1
    assert "price of `openai/loopback` is not known" in told[0].text


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (reply("EMBEDDING_LR = 0.6", "x"), r"matches nothing[\s\S]*EMBEDDING_LR = 6e-1"),
        ("no idea", "holds no edit"),
        (reply("SEED = 42", "SEED = 43"), "only random seeds"),
        (reply("DEPTH = 4               # transformer blocks", "DEPTH ="), "not valid Python"),
        (GOOD.replace("FILE: train.py", "FILE: judge.py"), "`judge.py` may not be changed"),
    ],
)
def test_a_bad_answer_is_repaired(bad: str, told: str) -> None:
    import re

    with serve(Say(bad), Say(GOOD)) as server:
        p = LlmProposer(config(server.url)).propose(context(), NEVER)
    assert p.usage.num_calls == 2
    assert re.search(told, server.requests[1]["messages"][-1]["content"])
    assert b"## Answer 2" in p.attachments["reply.md"]
    assert b"## Told after answer 1" in p.attachments["reply.md"]


def test_a_cut_answer_is_told_so() -> None:
    with serve(Say(GOOD[:-30], finish="length"), Say(GOOD)) as server:
        p = LlmProposer(config(server.url)).propose(context(), NEVER)
    assert p.usage.num_calls == 2
    assert "cut off at its longest" in server.requests[1]["messages"][-1]["content"]


def test_rounds_end_in_a_discard_that_keeps_what_is_known() -> None:
    with (
        serve(Say(reply("nothing like it", "x"))) as server,
        pytest.raises(EditFailedError, match="matches nothing") as raised,
    ):
        LlmProposer(config(server.url)).propose(context(), NEVER)
    failed = raised.value
    assert failed.reason == "edit_failed"
    assert failed.proposal.usage.num_calls == 4
    assert failed.proposal.usage.cost_usd is not None
    assert failed.proposal.description == "change it"
    assert failed.proposal.files == {"train.py": TRAIN}


def test_a_duplicate_names_its_experiment() -> None:
    tried = {identity({"train.py": TRAIN.replace("6e-1 ", "3e-1 ")}): 12}
    with (
        serve(Say(GOOD)) as server,
        pytest.raises(EditFailedError, match="experiment #12 tried exactly these files") as raised,
    ):
        LlmProposer(config(server.url)).propose(context(tried=tried), NEVER)
    assert raised.value.reason == "duplicate"


def test_ten_useless_answers_in_a_row_pause_the_model() -> None:
    with serve(Say(USELESS)) as server:
        proposer = LlmProposer(config(server.url))
        for _ in range(9):
            with pytest.raises(EditFailedError):
                proposer.propose(context(), NEVER)
        with pytest.raises(
            ProposerUnavailableError, match="10 unusable answers in a row"
        ) as raised:
            proposer.propose(context(), NEVER)
    assert raised.value.retry_seconds == 600
    assert raised.value.usage.num_calls == 4


def two_models(url: str, **more: Any) -> tuple[Proposer, list[str]]:
    base = load_config(None).config
    settings = config(url, model="openai/first", fallback_models=["openai/second"], **more)
    told: list[str] = []
    made = make_proposer(
        base.model_copy(update={"proposer": settings}), notify=lambda alert: told.append(alert.text)
    )
    return made, told


def test_after_ten_useless_answers_the_next_model_is_asked() -> None:
    with serve(lambda _, body: Say(USELESS if body["model"] == "first" else GOOD)) as server:
        proposer, told = two_models(server.url)
        for _ in range(9):
            with pytest.raises(EditFailedError):
                proposer.propose(context(), NEVER)
        p = proposer.propose(context(), NEVER)
        again = proposer.propose(context(), NEVER)
    assert p.proposer == again.proposer == "llm"
    assert p.usage.num_calls == 5
    assert again.usage.num_calls == 1
    assert len(told) == 1
    assert told[0].startswith("`openai/first` returned 10 unusable answers in a row")
    assert "`openai/second` proposes meanwhile" in told[0]


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (Say(status=401), "does not accept the key"),
        (Say(status=404), "does not exist"),
        (Say(status=400, error="such a prompt is not wanted"), "rejects the request"),
        (Say(status=503), "is not available"),
    ],
)
def test_a_model_that_cannot_be_had_is_replaced_by_the_next(
    trouble: Say, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "OUTAGE_SECONDS", 0.0)
    first = [trouble]
    with serve(lambda _, body: first[0] if body["model"] == "first" else Say(GOOD)) as server:
        proposer, told = two_models(server.url)
        p = proposer.propose(context(), NEVER)
        assert why in told[0]
        assert p.usage.num_calls == len(server.requests)
    with serve(trouble) as server:
        proposer, told = two_models(server.url)
        assert proposer.propose(context(), NEVER).proposer == "search"
        assert "`openai/second` proposes meanwhile" in told[0]
        assert "`search` proposes meanwhile" in told[1]


def test_a_fallback_of_another_provider_has_its_own_address_and_key() -> None:
    settings = config(
        "http://localhost:1/v1",
        api_key_env="MINE",
        context_tokens=9,
        fallback_models=["openai/b", "anthropic/c"],
    )
    first, same, other = model_settings(settings)
    assert (first.model, same.model, other.model) == ("openai/loopback", "openai/b", "anthropic/c")
    assert (same.api_base, same.api_key_env, same.price_in) == (
        "http://localhost:1/v1",
        "MINE",
        1.0,
    )
    assert (other.api_base, other.api_key_env, other.price_in) == ("", "", -1.0)
    assert other.context_tokens == 0


@pytest.mark.parametrize(
    ("say", "message", "wait"),
    [
        (Say(status=429, headers=(("retry-after", "17"),)), "limits the rate", 17.0),
        (
            Say(status=429, headers=(("retry-after", "Wed, 21 Oct 2099 07:28:00 GMT"),)),
            "limits the rate",
            3600.0,
        ),
        (Say(status=429, code="billing_not_active"), "no credit", 600.0),
        (Say(status=500), "server of|answered with an error", 5.0),  # by litellm's version
        (Say(status=503), "not available", 5.0),
        (Say(status=401, error="Incorrect API key provided"), "does not accept the key", 600.0),
        (Say(status=403), "may not use", 600.0),
        (Say(status=402), "no credit", 600.0),
        (
            Say(status=429, error="You exceeded your quota", code="insufficient_quota"),
            "no credit",
            600.0,
        ),
        (Say(status=404, error="The model `x` does not exist"), "does not exist", 600.0),
        (Say(raw=b"<html><b>garbage</b>"), "something else than a completion: garbage", 20.0),
    ],
)
def test_faults_of_the_provider(say: Say, message: str, wait: float) -> None:
    with serve(say) as server, pytest.raises(ProposerUnavailableError, match=message) as raised:
        LlmProposer(config(server.url)).propose(context(), NEVER)
    assert raised.value.retry_seconds is not None
    assert wait <= raised.value.retry_seconds <= wait * 1.3
    assert len(server.requests) == 1


def test_an_answer_that_breaks_off_is_asked_again() -> None:
    with serve(Say(GOOD, is_broken_off=True), Say(GOOD)) as server:
        proposer = LlmProposer(config(server.url))
        try:
            p = proposer.propose(context(), NEVER)
        except ProposerUnavailableError:
            p = proposer.propose(context(), NEVER)
    assert p.parameters == {"EMBEDDING_LR": 0.3}
    assert len(server.requests) == 2


def test_waits_grow_and_end() -> None:
    rng = random.Random(0)
    waits = [errors.wait_seconds(n, None, rng) for n in range(1, 30)]
    assert 5 <= waits[0] <= 6.25
    assert waits[1] >= 10
    assert 900 <= waits[-1] <= 1125
    assert errors.wait_seconds(1, 40, rng) == 40


def test_no_server_at_all() -> None:
    with serve(Say()) as server:
        url = server.url
    with pytest.raises(ProposerUnavailableError, match="cannot be reached: Connection") as raised:
        LlmProposer(config(url)).propose(context(), NEVER)
    assert raised.value.usage.cost_usd is None
    assert f"is a server running at `{url}`" in str(raised.value.hint)
    ollama = config(url.removesuffix("/v1"), model="ollama_chat/qwen3-coder")
    with pytest.raises(ProposerUnavailableError, match="cannot be reached") as missed:
        LlmProposer(ollama).check()
    assert "`ollama serve`" in str(missed.value.hint)


def test_a_slow_answer_times_out_and_is_booked_at_its_most() -> None:
    with serve(Say(GOOD, seconds_before=60)) as server:
        began = time.monotonic()
        with pytest.raises(ProposerUnavailableError, match="did not answer in time") as raised:
            LlmProposer(config(server.url, timeout_seconds=1.0)).propose(context(), NEVER)
    assert time.monotonic() - began < 30
    cost = raised.value.usage.cost_usd
    assert cost is not None
    assert cost > 16384 * 4 / 1e6


def test_a_stop_ends_the_wait_at_once() -> None:
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    with serve(Say(GOOD, seconds_before=60)) as server:
        proposer = LlmProposer(config(server.url))
        began = time.monotonic()
        with pytest.raises(CancelledError) as raised:
            proposer.propose(context(), stop)
    assert time.monotonic() - began < 30
    assert raised.value.usage.num_calls <= 1


def test_a_prompt_that_is_too_long_is_halved_then_minimal() -> None:
    long = Say(
        status=400,
        error="This model's maximum context length is 100 tokens. However, your messages resulted in 9",
        code="context_length_exceeded",
    )
    past = session(
        *(experiment(n, Verdict.DISCARD, 1.51, description="word " * 30) for n in range(1, 60))
    )
    with serve(long, long, long, long, Say(GOOD)) as server:
        p = LlmProposer(config(server.url)).propose(context(number=60, past=past), NEVER)
    sizes = [len(server.prompt(i)) for i in range(5)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[4] < sizes[0]
    assert p.usage.num_calls == 5
    with serve(long) as server, pytest.raises(ProposerUnavailableError, match="too long"):
        LlmProposer(config(server.url)).propose(context(), NEVER)
    assert len(server.requests) == 5


def test_a_refused_prompt_is_asked_once_more_without_logs() -> None:
    refused = Say(
        status=400,
        error="rejected by the content management policy",
        code="content_policy_violation",
    )
    past = session(experiment(1, Verdict.CRASH, None))
    given = context(number=2, past=past, log_tails={1: "SECRETWORD out of memory"})
    with serve(refused, Say(GOOD)) as server:
        LlmProposer(config(server.url)).propose(given, NEVER)
    assert "SECRETWORD" in server.prompt(0)
    assert "SECRETWORD" not in server.prompt(1)
    with (
        serve(refused) as server,
        pytest.raises(ProposerUnavailableError, match=r"refuses|rejects") as raised,
    ):
        LlmProposer(config(server.url)).propose(given, NEVER)
    assert raised.value.retry_seconds == 600
    assert len(server.requests) == 2


def test_the_cost_limit_counts_what_is_in_flight() -> None:
    ledger = Ledger()
    with serve(Say(GOOD)) as server:
        proposer = LlmProposer(config(server.url), ledger)
        proposer.propose(context(cost_left_usd=0.08), NEVER)
        with pytest.raises(CostLimitError, match="could cost"):
            proposer.propose(context(cost_left_usd=0.05), NEVER)
        with ledger.reserve(0.05, None, Usage()), pytest.raises(CostLimitError):
            proposer.propose(context(cost_left_usd=0.08), NEVER)
        proposer.propose(context(cost_left_usd=0.08), NEVER)
    assert len(server.requests) == 2


def test_first_contact() -> None:
    with serve(Say("OK")) as server:
        proposer = LlmProposer(config(server.url))
        assert proposer.check().startswith("llm: `openai/loopback` answered in")
    with serve(Say(GOOD)) as server:
        proposer.provider = Provider(config(server.url))
        assert [proposer.propose(context(), NEVER).usage.num_calls for _ in range(2)] == [2, 1]
    with pytest.raises(PrerequisiteError, match=r"`.proposer. model` is empty"):
        LlmProposer(config("", model="")).check()
    with pytest.raises(PrerequisiteError, match="`OPENAI_API_KEY` is not set") as raised:
        LlmProposer(config("", model="openai/gpt-4o-mini")).check()
    assert "export OPENAI_API_KEY" in str(raised.value.hint)
    with pytest.raises(PrerequisiteError, match="`MY_KEY` is not set"):
        LlmProposer(config("", api_key_env="MY_KEY")).check()
    with pytest.raises(PrerequisiteError, match="names no known provider") as raised:
        LlmProposer(config("", model="nonsense-model")).check()
    assert "provider/name" in str(raised.value.hint)


@pytest.mark.parametrize(
    "say", [Say(status=429), Say(status=500), Say(status=503), Say(GOOD, seconds_before=60)]
)
def test_first_contact_in_an_outage_is_no_missing_prerequisite(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    if say.seconds_before:
        monkeypatch.setattr(llm, "_CHECK_SECONDS", 0.5)

    def answer(_: int, body: dict[str, Any]) -> Say:
        return say if body["max_tokens"] == llm._CHECK_TOKENS else Say(GOOD)

    with serve(answer) as server:
        proposer = LlmProposer(config(server.url))
        with pytest.raises(ProposerUnavailableError) as raised:
            proposer.check()
        assert raised.value.retry_seconds is not None
        p = proposer.propose(context(), NEVER)
    assert p.usage.num_calls == 2, (
        "what the first contact may have cost is booked with the first idea"
    )


@pytest.mark.parametrize(
    "say",
    [*(Say(status=n) for n in (401, 402, 403, 404)), Say(status=429, code="insufficient_quota")],
    ids=lambda say: f"{say.status} {say.code or ''}",
)
def test_first_contact_refuses_what_the_user_must_mend(say: Say) -> None:
    with serve(say) as server, pytest.raises(PrerequisiteError):
        LlmProposer(config(server.url)).check()


def test_first_contact_names_the_key_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-99")
    with (
        serve(Say(status=401, error="Incorrect API key provided: sk-secret-99")) as server,
        pytest.raises(PrerequisiteError, match="does not accept the key") as raised,
    ):
        LlmProposer(config(server.url, api_key_env="MY_KEY")).check()
    assert "sk-secret-99" not in raised.value.message
    assert "`MY_KEY`" in str(raised.value.hint)
    assert redact("key sk-secret-99") == "key <MY_KEY>"


def test_every_error_class_of_litellm_has_a_row() -> None:
    """Also a class that a new release adds, by the class above it or by its status."""
    litellm = import_litellm()
    import litellm.exceptions as module

    classes = {
        value
        for space in (litellm, module)
        for value in vars(space).values()
        if inspect.isclass(value)
        and issubclass(value, Exception)
        and value.__module__.startswith("litellm.")
    }
    assert len(classes) > 15
    for cls in classes:
        for status in (None, 400, 404, 418, 429, 500, 503, 599):
            changed = type("Changed", (cls,), {"status_code": status})
            fault = errors.find_fault(changed.__new__(changed))
            if status or issubclass(cls, module.APIError | litellm.BadRequestError):
                assert fault is not errors.UNKNOWN, (cls, status)
    added = type("Added", (litellm.RateLimitError,), {})
    assert errors.find_fault(added.__new__(added)) is errors.TABLE["RateLimitError"]
    spent = type("Spent", (Exception,), {"status_code": 402})
    assert errors.find_fault(spent()) is errors.TABLE["PaymentRequiredError"]
    missing = type("Missing", (litellm.BadRequestError,), {"status_code": 404})
    assert errors.find_fault(missing.__new__(missing)) is errors.TABLE["NotFoundError"]


def test_importing_imports_no_litellm() -> None:
    code = "import sys, autoresearch.proposer.llm.proposer; sys.exit('litellm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_prompts_are_marked_for_claude_only() -> None:
    proposer = LlmProposer(config("", model="anthropic/claude-sonnet-4-5"))
    assert proposer.provider.is_cache_marked
    messages = proposer.preview(context()).prompt.messages(is_marked=True)
    assert messages[0]["content"][0]["cache_control"] == {"type": "ephemeral"}
    assert not LlmProposer(config("", model="openai/gpt-4o-mini")).provider.is_cache_marked


def test_a_description_is_made_up_from_the_diff() -> None:
    after = {"train.py": TRAIN.replace("6e-1 ", "3e-1 ")}
    assert describe({"train.py": TRAIN}, after) == "EMBEDDING_LR 0.6 -> 0.3"
    longer = {"train.py": TRAIN.replace("    LOCAL = 3\n", "    LOCAL = 4\n    print(1)\n")}
    assert describe({"train.py": TRAIN}, longer) == "train.py (+2 -1): LOCAL = 4"


def test_a_local_ollama_model_is_unloaded_after_each_answer() -> None:
    with serve(Say(status=404)) as server:
        root = server.url.removesuffix("/v1")
        proposer = LlmProposer(config(root, model="ollama_chat/some-model"))
        assert is_local(config(root, model="ollama_chat/some-model"))
        with pytest.raises(ProposerUnavailableError):
            proposer.propose(context(), NEVER)
    assert server.requests[0]["keep_alive"] == 0


def test_an_error_nobody_knows_is_waited_for() -> None:
    class StrangeError(Exception):
        pass

    assert errors.find_fault(StrangeError()).action == "wait"
    assert errors.find_fault(ConnectionResetError()).sentence == "`{model}` cannot be reached"
    assert errors.find_fault(TimeoutError()).is_billed


def refuse(option: str, words: str, status: int = 400, named: bool = True) -> Callable[..., Say]:
    """Return a server that answers well unless a request has an option."""

    def answer(_: int, body: dict[str, Any]) -> Say:
        if body.get(option):
            return Say(status=status, error=words, param=option if named else None)
        return Say(GOOD)

    return answer


@pytest.mark.parametrize(
    ("answer", "unfit"),
    [
        (refuse("stream", "Your organization must be verified to stream this model."), "stream"),
        (refuse("stream", "streaming is off: set stream to false", 403, False), "stream"),
        (refuse("stream", "'stream' is not supported", 422, False), "stream"),
        (refuse("stream_options", "Unknown parameter: 'stream_options'."), "stream_options"),
        (refuse("stream_options", "stream_options: Extra inputs", 400, False), "stream_options"),
        (
            refuse(
                "max_tokens", "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'"
            ),
            "max_tokens",
        ),
        (refuse("max_tokens", "max_tokens is not supported", 400, False), "max_tokens"),
    ],
)
def test_a_refused_option_is_left_out_and_remembered(answer: Any, unfit: str) -> None:
    with serve(answer) as server:
        proposer = LlmProposer(config(server.url))
        first = proposer.propose(context(), NEVER)
        second = proposer.propose(context(), NEVER)
    assert (first.usage.num_calls, second.usage.num_calls) == (2, 1)
    assert len(server.requests) == 3
    assert unfit in server.requests[0]
    assert all(not request.get(unfit) for request in server.requests[1:])
    limits = [r.get("max_tokens") or r.get("max_completion_tokens") for r in server.requests]
    assert limits == [16384] * 3
    assert first.usage.cost_usd == second.usage.cost_usd


def test_an_option_is_left_out_once_and_a_limit_that_is_too_large_is_named() -> None:
    words = "max_tokens is too large: 16384. This model supports at most 4096 completion tokens"
    with (
        serve(Say(status=400, error=words, param="max_tokens")) as server,
        pytest.raises(ProposerUnavailableError, match="at most 4096") as raised,
    ):
        LlmProposer(config(server.url)).propose(context(), NEVER)
    assert "`[proposer] max_output_tokens`" in str(raised.value.hint)
    assert len(server.requests) == 3, "the other name of the limit, then without program output"


def test_every_option_may_be_refused_in_turn() -> None:
    def answer(_: int, body: dict[str, Any]) -> Say:
        for option in ("stream_options", "stream", "max_tokens"):
            if body.get(option):
                return Say(status=400, error="unknown", param=option)
        return Say(GOOD)

    with serve(answer) as server:
        p = LlmProposer(config(server.url)).propose(context(), NEVER)
    assert p.usage.num_calls == len(server.requests) == 4


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_a_server_that_does_not_stream_is_understood(kind: str) -> None:
    usage = {"prompt_tokens": 70, "completion_tokens": 30, "total_tokens": 100}
    with serve(Say(raw=completion(GOOD, usage), kind=kind)) as server:
        p = LlmProposer(config(server.url)).propose(context(), NEVER)
    assert p.parameters == {"EMBEDDING_LR": 0.3}
    assert (p.usage.tokens_in, p.usage.tokens_out) == (70, 30)
    with serve(Say(raw=events({"content": GOOD}), kind=kind)) as server:
        assert LlmProposer(config(server.url)).propose(context(), NEVER).parameters


@pytest.mark.parametrize(
    ("raw", "said", "wait"),
    [
        (b'{"error": {"message": "the pool is drained", "type": "x"}}', "the pool is drained", 20),
        (b'{"error": "no such deployment"}', "no such deployment", 20),
        (b'{"error": {"message": "bad key sk-secret-77", "code": 401}}', "bad key <MY_KEY>", 600),
        (b'{"error": {"message": "x", "code": "insufficient_quota"}}', "no credit: x", 600),
        (b"<html><style>a{}</style><h1>Sign in to the lounge</h1>", "Sign in to the lounge", 20),
        (
            b'data: {"error": {"message": "overloaded words", "code": 529}}\n\n',
            "overloaded words",
            5,
        ),
        (b"", "nothing", 20),
    ],
)
def test_a_body_that_is_no_answer_is_quoted(
    raw: bytes, said: str, wait: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-77")
    with serve(Say(raw=raw)) as server, pytest.raises(ProposerUnavailableError) as raised:
        LlmProposer(config(server.url, api_key_env="MY_KEY")).propose(context(), NEVER)
    assert said in raised.value.message
    assert raised.value.retry_seconds is not None
    assert raised.value.retry_seconds >= wait
    assert len(server.requests) == 1


def test_a_key_is_redacted_whatever_its_variable_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "abcdefgh12345")
    with (
        serve(Say(status=401, error="Incorrect: abcdefgh12345")) as server,
        pytest.raises(PrerequisiteError) as raised,
    ):
        LlmProposer(config(server.url, api_key_env="MINE")).check()
    assert "Incorrect: <MINE>" in raised.value.message


@pytest.mark.parametrize(
    ("say", "is_money"),
    [
        (Say(status=400, error="Your credit balance is too low to access the API"), True),
        (Say(status=429, error="Insufficient balance"), True),
        (Say(status=403, error="x", code="billing_hard_limit_reached"), True),
        (Say(status=429, error="You exceeded your current quota: 5 requests per minute"), False),
        (Say(status=429, error="credits refill each minute", code="rate_limit_exceeded"), False),
    ],
)
def test_no_credit_and_a_limit_of_the_rate_are_told_apart(say: Say, is_money: bool) -> None:
    with serve(say) as server, pytest.raises(ProposerUnavailableError) as raised:
        LlmProposer(config(server.url)).propose(context(), NEVER)
    assert ("no credit" in raised.value.message) is is_money
    assert say.error in raised.value.message
    assert (raised.value.retry_seconds == 600) is is_money


THOUGHT = {"prompt_tokens": 9, "completion_tokens": 16384, "total_tokens": 16393}


@pytest.mark.parametrize(
    ("raw", "told", "hint"),
    [
        (
            events({"reasoning_content": "hm"}, finish="length", usage=THOUGHT),
            "thinking used up all 16384 output tokens",
            "raise `[proposer] max_output_tokens`",
        ),
        (  # As OpenRouter names it.
            events({"reasoning": "hm", "content": None}, finish="length", usage=THOUGHT),
            "thinking used up all 16384 output tokens",
            "raise `[proposer] max_output_tokens`",
        ),
        (  # In parts, of which none is text.
            events(
                {"content": [{"type": "thinking", "thinking": "hm"}]},
                finish="length",
                usage=THOUGHT,
            ),
            "thinking used up all 16384 output tokens",
            "raise `[proposer] max_output_tokens`",
        ),
        (
            completion(None, THOUGHT, "length"),  # Although a stream was asked for.
            "thinking used up all 16384 output tokens",
            "raise `[proposer] max_output_tokens`",
        ),
        (
            events({"content": "<think>hm hm"}, finish="length", usage=THOUGHT),
            "has no end",
            "raise `[proposer] max_output_tokens`",
        ),
        (events({"content": "I will not."}, usage=THOUGHT), "begins with `I will not.`", "model`"),
        (
            events({"content": " "}, finish="content_filter", usage=THOUGHT),
            "content filter",
            "model`",
        ),
    ],
)
def test_an_empty_answer_is_asked_again_once_then_the_model_pauses(
    raw: bytes, told: str, hint: str
) -> None:
    kind = "text/event-stream" if raw.startswith(b"data:") else "application/json"
    with serve(Say(raw=raw, kind=kind)) as server:
        proposer = LlmProposer(config(server.url))
        waits = []
        for _ in range(2):
            with pytest.raises(ProposerUnavailableError, match="nothing to try") as raised:
                proposer.propose(context(), NEVER)
            waits.append(raised.value.retry_seconds or 0.0)
    assert told in raised.value.message
    assert told in server.prompt(1)
    assert str(raised.value.hint).endswith(hint)
    assert raised.value.usage.num_calls == 2
    assert waits[1] > waits[0] >= 20


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_an_answer_that_was_cut_after_a_whole_block_is_not_tried(finish: str) -> None:
    with serve(Say(GOOD, finish=finish), Say(GOOD)) as server:
        p = LlmProposer(config(server.url)).propose(context(), NEVER)
    assert p.usage.num_calls == 2
    assert "cut off" in server.requests[1]["messages"][-1]["content"]


def test_what_cannot_be_sent_back_is_sent_in_other_characters() -> None:
    bad = GOOD.replace("EMBEDDING_LR = 6e-1 ", "lone \ud800 and \0 and \x1b[2J")
    given = context(program="odd \udcff name")
    with serve(Say(bad), Say(GOOD)) as server:
        p = LlmProposer(config(server.url)).propose(given, NEVER)
    assert p.usage.num_calls == 2
    assert "odd ? name" in server.prompt(0)
    assert "lone ? and \u2400" in server.requests[1]["messages"][2]["content"]
    assert b"lone ? and" in p.attachments["reply.md"]


def test_an_answer_in_parts_is_read_streamed_or_not() -> None:
    parts = [{"type": "text", "text": text} for text in (GOOD[:40], GOOD[40:])]
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    stream = events({"content": [thought]}, {"content": parts[:1]}, {"content": parts[1:]})
    for say in (Say(raw=stream, kind="text/event-stream"), Say(raw=completion(parts))):
        with serve(say) as server:
            p = LlmProposer(config(server.url)).propose(context(), NEVER)
        assert p.parameters == {"EMBEDDING_LR": 0.3}
        assert len(server.requests) == 1


@pytest.mark.skipif(
    [int(part) for part in metadata.version("litellm").split(".")[:2]] < [1, 109],
    reason="before 1.109 litellm takes such a stream for complete, and so do we",
)
def test_a_stream_that_never_says_why_it_ended_is_asked_for_whole() -> None:
    def answer(_: int, body: dict[str, Any]) -> Say:
        stream = events({"content": GOOD}, finish=None)
        return Say(raw=stream, kind="text/event-stream") if body.get("stream") else Say(GOOD)

    with serve(answer) as server:
        proposer = LlmProposer(config(server.url))
        calls = [proposer.propose(context(), NEVER).usage.num_calls for _ in range(2)]
    assert calls == [2, 1]
