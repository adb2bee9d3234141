"""The only importer of litellm: one call to one model, with its usage, or a `ProviderError`.

litellm is imported at the first call (seconds), never fetches its price list, and never retries by itself. A call
runs in a separate thread, so that a stop or a deadline ends the wait at once; a call left behind is booked
at the most it can cost.
"""

import json
import os
import queue
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from autoresearch.config import ProposerConfig
from autoresearch.proposer import variables
from autoresearch.proposer.cost import Price
from autoresearch.proposer.llm.errors import (
    TABLE,
    Fault,
    find_fault,
    refused_option,
    retry_after_of,
)
from autoresearch.proposer.prompt import estimate_tokens
from autoresearch.types import Usage
from autoresearch.util.text import redact

_DEFAULT_WINDOW = 32_768
_MARKED_PROVIDERS = ("anthropic", "bedrock", "bedrock_converse", "vertex_ai", "databricks")
"""Providers whose prompt cache must be asked for; for Claude models only."""
_OLLAMA = ("ollama", "ollama_chat")
_PREFIXES = {"azure": ("OPENAI_",), "gemini": ("GOOGLE_API_",), "bedrock": ("AWS_",)}
"""Provider -> beginnings of its variables, besides its name."""
_LOCAL = (*_OLLAMA, "lm_studio", "llamafile")
"""Providers whose usual address is this machine."""
_LOOPBACK = re.compile(r"^https?://(localhost|127\.|\[::1\]|0\.0\.0\.0)")
_PREFIX = re.compile(r"^((litellm\.)?\w+Error: |\w+Exception - )+")


@dataclass(frozen=True)
class Reply:
    """What a model said."""

    text: str
    usage: Usage
    ending: str = "stop"
    """Why it ended, as the provider says: `length` at the limit of output tokens, `content_filter`, ..."""


class ProviderError(Exception):
    """A call failed; `fault` says what to do about it, `usage` what it may have cost."""

    def __init__(self, said: str, fault: Fault, usage: Usage, retry_after: float | None) -> None:
        super().__init__(said)
        self.fault = fault
        self.usage = usage
        self.retry_after = retry_after


class StoppedError(Exception):
    """The session ended during a call; `usage` is the most it can have cost."""

    def __init__(self, usage: Usage) -> None:
        super().__init__("stopped")
        self.usage = usage


def import_litellm() -> Any:
    """Import litellm without its network access, its advertising and its log lines."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import logging
    import warnings

    for module in ("litellm", "pydantic"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|\Z)")
    import litellm

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm


def is_local(config: ProposerConfig) -> bool:
    """Return whether the model runs on this machine, where it may share the device with the trials."""
    if config.api_base:
        return bool(_LOOPBACK.match(config.api_base))
    return config.model.partition("/")[0] in _LOCAL


class Provider:
    """One model at one address, as the configuration names it."""

    def __init__(self, config: ProposerConfig) -> None:
        self._config = config
        self.model = config.model
        self._unfit: set[str] = set()
        """Of `errors.OPTIONS`, what this provider refuses."""

    @cached_property
    def _info(self) -> Mapping[str, Any]:
        """What litellm knows of the model; empty if nothing."""
        litellm = import_litellm()
        try:
            return dict(litellm.get_model_info(self.model))
        except Exception:  # noqa: BLE001 - litellm raises a bare Exception for unknown models
            return {}

    @cached_property
    def _provider_name(self) -> str:
        try:
            return str(import_litellm().get_llm_provider(self.model)[1])
        except Exception:  # noqa: BLE001 - an unknown provider fails when it is asked
            return ""

    @cached_property
    def price(self) -> Price | None:
        """Price per token; None where it is not known."""
        if self._config.price_in >= 0 and self._config.price_out >= 0:
            return Price(self._config.price_in / 1e6, self._config.price_out / 1e6)
        if self.model.partition("/")[0] in _LOCAL:
            return Price(0.0, 0.0)
        read, write = (
            self._info.get("input_cost_per_token"),
            self._info.get("output_cost_per_token"),
        )
        return Price(float(read), float(write)) if read is not None and write is not None else None

    @cached_property
    def max_output(self) -> int:
        """Tokens of an answer at most."""
        known = self._info.get("max_output_tokens")
        return (
            min(self._config.max_output_tokens, int(known))
            if known
            else self._config.max_output_tokens
        )

    @cached_property
    def max_prompt(self) -> int:
        """Tokens of a prompt at most."""
        if self._config.context_tokens:
            return self._config.context_tokens
        window = int(self._info.get("max_input_tokens") or _DEFAULT_WINDOW)
        return max(1024, int(0.95 * window) - self.max_output)

    @property
    def is_cache_marked(self) -> bool:
        """Whether the provider caches what is marked, and only that."""
        return self._provider_name in _MARKED_PROVIDERS and "claude" in self.model

    def count(self, text: str) -> int:
        """Return the tokens of a text, by litellm's tokenizer for the model."""
        try:
            return int(import_litellm().token_counter(model=self.model, text=text))
        except Exception:  # noqa: BLE001 - a tokenizer that cannot be had must not end the night
            return estimate_tokens(text)

    def key(self) -> str | None:
        """Return the key to pass; None leaves it to litellm and the provider's own variable."""
        if self._config.api_key_env:
            return os.environ.get(self._config.api_key_env) or None
        if self._config.api_base and self._provider_name == "openai":
            return os.environ.get("OPENAI_API_KEY") or "none"
        return None

    def check_here(self) -> None:
        """Check that requests can leave this machine: key, address, proxies.

        Raises:
            PrerequisiteError: one cannot; names the variable or the setting.
        """
        prefixes = (f"{self._provider_name.upper()}_", *_PREFIXES.get(self._provider_name, ()))
        mine = [self._config.api_key_env] if self._config.api_key_env else []
        variables.tidy([*mine, *(variables.names_of(prefixes) if self._provider_name else ())])
        if base := self._config.api_base:
            hint = 'write it whole in autoresearch.toml, `api_base = "http://127.0.0.1:8000/v1"`'
            variables.check_address(base, "`[proposer] api_base`", hint)
        variables.check_client()

    @property
    def key_name(self) -> str:
        """Return the variable that holds the key, set or not."""
        return self._config.api_key_env or f"{(self._provider_name or 'provider').upper()}_API_KEY"

    def key_names(self) -> list[str]:
        """Return the variables that must be set and are not."""
        if self._config.api_key_env:
            return [] if os.environ.get(self._config.api_key_env) else [self._config.api_key_env]
        if self._config.api_base or is_local(self._config):
            return []
        try:
            missing = import_litellm().validate_environment(self.model)["missing_keys"]
        except Exception:  # noqa: BLE001 - not knowing is no reason to refuse
            return []
        return [str(name) for name in missing]

    def hint(self, fault: Fault, said: str) -> str:
        """Return what the user can do about a fault; names the variable, the line or the command.

        Args:
            fault: How the error is met.
            said: The provider's words.
        """
        _, _, name = self.model.partition("/")
        is_ollama = self._provider_name in _OLLAMA and is_local(self._config)
        if fault is TABLE["NotFoundError"] and is_ollama:
            return f"`ollama pull {name}`, or correct `[proposer] model`"
        if fault is TABLE["NotFoundError"] and self._config.api_base:
            return "correct `[proposer] model`, or `[proposer] api_base`: does it lack its `/v1`?"
        proxy = variables.proxy_of(self._config.api_base or "https://")
        if proxy and (fault is TABLE["APIConnectionError"] or "407" in said):
            return f"look at the proxy that `{proxy}` names, or except the server from it in `NO_PROXY`"
        if fault is TABLE["APIConnectionError"] and is_ollama:
            return "start it with `ollama serve`, or name its address in `[proposer] api_base`"
        if fault is TABLE["APIConnectionError"] and self._config.api_base:
            return f"is a server running at `{self._config.api_base}`, the `[proposer] api_base`?"
        if fault is TABLE["NotSentError"]:
            return variables.client_hint(said)
        if "max_tokens" in said or "max_completion_tokens" in said:
            return "lower `[proposer] max_output_tokens`"
        return fault.hint.format(model=self.model, key=self.key_name)

    def most(self, messages: Sequence[Mapping[str, Any]], max_output: int) -> float | None:
        """Return the most a call can cost in US dollars; None when the price is unknown."""
        if self.price is None:
            return None
        return self.price.most(self._count_messages(messages), max_output)

    def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        stop: threading.Event,
        *,
        max_output: int | None = None,
        timeout_seconds: float | None = None,
    ) -> Reply:
        """Make one call; where the provider refuses an option of it, once more without, which is remembered.

        Raises:
            ProviderError: it failed.
            StoppedError: `stop` was set.
        """
        limit = max_output or self.max_output
        seconds = timeout_seconds or self._config.timeout_seconds
        spent = Usage()
        while True:
            began = time.monotonic()
            answer = self._wait(messages, stop, limit, seconds)
            if isinstance(answer, StoppedError):
                raise StoppedError(spent + self._worst(messages, limit, began))
            if not isinstance(answer, BaseException):
                return self._reply(answer, messages, began, spent)
            error = self._error(answer, messages, limit, began)
            option = refused_option(answer)
            if option in ("", *self._unfit):
                error.usage = spent + error.usage
                raise error from answer
            self._unfit.add(option)
            spent = spent + error.usage

    def _wait(
        self,
        messages: Sequence[Mapping[str, Any]],
        stop: threading.Event,
        limit: int,
        seconds: float,
    ) -> Any:
        """Return what one request brings: litellm's response, or the error."""
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        import_litellm()  # the first time takes seconds, which are not the provider's
        began = time.monotonic()
        given_up = threading.Event()

        def call() -> None:
            try:
                answers.put(self._call(messages, limit, seconds, given_up))
            except BaseException as exc:  # noqa: BLE001 - handed to the thread that waits
                answers.put(exc)

        threading.Thread(target=call, name="provider", daemon=True).start()
        while True:
            try:
                return answers.get(timeout=0.1)
            except queue.Empty:
                if stop.is_set():
                    given_up.set()
                    return StoppedError(Usage())
                if time.monotonic() - began > seconds + 5:
                    given_up.set()
                    return TimeoutError(f"no answer within {seconds:g} s")

    def _call(
        self,
        messages: Sequence[Mapping[str, Any]],
        max_output: int,
        seconds: float,
        given_up: threading.Event,
    ) -> Any:
        """Stream an answer, if the provider streams, and return it whole, as litellm's response object."""
        litellm = import_litellm()
        options: dict[str, Any] = {}
        if self._config.api_base:
            options["api_base"] = self._config.api_base
        if (key := self.key()) is not None:
            options["api_key"] = key
        if self._provider_name in _OLLAMA and is_local(self._config):
            options["keep_alive"] = 0  # The model leaves the device before the trial begins.
        limit_name = "max_tokens"
        if limit_name in self._unfit:
            limit_name = "max_completion_tokens"
        options[limit_name] = max_output
        if "stream" not in self._unfit:
            options["stream"] = True
            if "stream_options" not in self._unfit:
                options["stream_options"] = {"include_usage": True}
        given = [{**m, "content": _sendable(m["content"])} for m in messages]
        stream = litellm.completion(
            model=self.model,
            messages=given,
            timeout=seconds,
            num_retries=0,
            max_retries=0,
            **options,
        )
        if "stream" not in options:
            return _checked(stream)
        if whole := _read_whole(stream):
            return _checked(litellm.ModelResponse(**whole))
        stream.completion_stream = _plain(stream.completion_stream)
        deadline = time.monotonic() + seconds
        chunks = []
        for chunk in stream:
            chunks.append(chunk)
            if given_up.is_set():
                raise StoppedError(Usage())
            if time.monotonic() > deadline:
                raise TimeoutError(f"the answer was not complete after {seconds:g} s")
        return _checked(litellm.stream_chunk_builder(chunks, messages=given))

    def _reply(
        self, whole: Any, messages: Sequence[Mapping[str, Any]], began: float, spent: Usage
    ) -> Reply:
        usage = getattr(whole, "usage", None)
        tokens_in = int(getattr(usage, "prompt_tokens", 0) or 0) or self._count_messages(messages)
        text = _text(whole.choices[0].message.content)
        tokens_out = int(getattr(usage, "completion_tokens", 0) or 0) or self.count(text)
        details = getattr(usage, "prompt_tokens_details", None)
        return Reply(
            text,
            spent
            + Usage(
                num_calls=1,
                tokens_in=tokens_in,
                tokens_out=tokens_out,
                tokens_cached=int(getattr(details, "cached_tokens", 0) or 0),
                cost_usd=self._cost(whole, tokens_in, tokens_out),
                seconds=time.monotonic() - began,
            ),
            str(whole.choices[0].finish_reason or "stop"),
        )

    def _cost(self, whole: Any, tokens_in: int, tokens_out: int) -> float | None:
        if self.price is None:
            return None
        if self._config.price_in >= 0 and self._config.price_out >= 0:
            return self.price.most(tokens_in, tokens_out)
        try:
            return float(import_litellm().completion_cost(whole, model=self.model))
        except Exception:  # noqa: BLE001 - litellm raises a bare Exception; the table price is the bound
            return self.price.most(tokens_in, tokens_out)

    def _error(
        self, error: BaseException, messages: Sequence[Mapping[str, Any]], limit: int, began: float
    ) -> ProviderError:
        fault = find_fault(error)
        if not self._provider_name:
            fault = TABLE["LiteLLMUnknownProvider"]
        usage = Usage(num_calls=1, seconds=time.monotonic() - began)
        if fault.is_billed:
            usage = self._worst(messages, limit, began)
        said = str(getattr(error, "message", "") or error) or type(error).__name__
        if getattr(error, "status_code", None) == 407 and "407" not in said:  # of an old litellm
            said = f"407, proxy authentication required: {said}"
        if fault is TABLE["NotSentError"]:
            said = str(_last(error))
        elif fault is TABLE["APIConnectionError"] and (cause := str(_last(error))) not in said:
            said = f"{said.rstrip('.')}: {cause}"
        if (key := self.key()) and key != "none":
            said = said.replace(key, f"<{self.key_name}>")
        said = redact(said)
        said = " ".join(_PREFIX.sub("", said).split())
        if fault is TABLE["LiteLLMUnknownProvider"]:
            said = ""  # An advertisement.
        return ProviderError(said[:300], fault, usage, retry_after_of(error))

    def _worst(self, messages: Sequence[Mapping[str, Any]], limit: int, began: float) -> Usage:
        """The usage of a call that died on the way: all it can have cost."""
        tokens_in = self._count_messages(messages)
        cost = self.price.most(tokens_in, limit) if self.price else None
        return Usage(
            num_calls=1, tokens_in=tokens_in, cost_usd=cost, seconds=time.monotonic() - began
        )

    def _count_messages(self, messages: Sequence[Mapping[str, Any]]) -> int:
        total = 8
        for message in messages:
            content = message["content"]
            texts = [content] if isinstance(content, str) else [part["text"] for part in content]
            total += 4 + sum(self.count(text) for text in texts)
        return total


class EmptyAnswerError(Exception):
    """An answer came without a word, and without a token that was paid for."""


class UnreadableAnswerError(Exception):
    """An answer came that is none; says what it holds.

    Args:
        said: The provider's words.
        status_code: Its status, as the body says where it says one.
        body: The body, if it is an object.
    """

    def __init__(self, said: str, status_code: int | None = None, body: Any = None) -> None:
        super().__init__(said)
        self.status_code = status_code
        self.body = body


def _read_whole(stream: Any) -> dict[str, Any] | None:
    """Return the completion of a server that does not stream though asked to; None where it does.

    Raises:
        UnreadableAnswerError: its answer is an error, or no completion at all.
    """
    response = getattr(getattr(stream, "completion_stream", None), "response", None)
    if response is None or "event-stream" in response.headers.get("content-type", ""):
        return None
    text = response.read().decode("utf-8", "replace").strip()
    if re.match(r"(data|event|id|retry)?:", text):
        return None  # Events under another name.
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if isinstance(body, dict) and body.get("choices"):
        for choice in body["choices"]:
            if isinstance(message := choice.get("message"), dict):
                message["content"] = _text(message.get("content"))
        return body
    error = body.get("error", body) if isinstance(body, dict) else None
    said = error.get("message") if isinstance(error, dict) else error
    status = error.get("code") if isinstance(error, dict) else None
    words = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    raise UnreadableAnswerError(
        str(said or " ".join(words.split()) or "nothing")[:300],
        status if isinstance(status, int) and status >= 400 else None,
        body,
    )


def _checked(whole: Any) -> Any:
    """Return a response that holds an answer."""
    choice = whole.choices[0] if whole is not None and whole.choices else None
    usage = getattr(whole, "usage", None)
    if choice is None or not (choice.message.content or getattr(usage, "completion_tokens", 0)):
        calls = getattr(getattr(choice, "message", None), "tool_calls", None)
        raise EmptyAnswerError("it calls a tool, though it was given none" if calls else "")
    return whole


def _text(content: Any) -> str:
    """Return the text of a message, which some servers give in parts."""
    if isinstance(content, list):
        parts = [p.get("text") if isinstance(p, Mapping) else p for p in content]
        return "".join(str(part or "") for part in parts)
    return str(content or "")


def _plain(chunks: Iterable[Any]) -> Iterator[Any]:
    """Yield chunks with the text of a delta that comes in parts, which litellm drops, as one."""
    for chunk in chunks:
        for choice in getattr(chunk, "choices", None) or ():
            if isinstance(
                content := getattr(getattr(choice, "delta", None), "content", None), list
            ):
                choice.delta.content = _text(content)
        yield chunk


def _sendable(content: Any) -> Any:
    """Return content without what UTF-8 or a provider cannot take: lone surrogates, null characters."""
    if isinstance(content, str):
        return content.encode("utf-8", "replace").decode().replace("\0", "\u2400")
    return [{**part, "text": _sendable(part["text"])} for part in content]


def _last(error: BaseException) -> BaseException:
    """Return the error that an error began with."""
    while following := error.__cause__ or error.__context__:
        error = following
    return error
