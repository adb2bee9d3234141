"""What can go wrong with a provider, and what to do about it: one row per class of litellm's exceptions.

By name, so that the table can be read without importing litellm. A class without a row takes that of its nearest base,
or of its HTTP status.
"""

import contextlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Action = Literal["wait", "pause", "shrink", "simplify"]
"""wait: ask again with growing pauses. pause: you must act; ask again every ten minutes. shrink: build a shorter
prompt. simplify: ask once more without logs, then fall back."""

FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 900.0
PAUSE_SECONDS = 600.0
MAX_SHRINKS = 3


@dataclass(frozen=True)
class Fault:
    """How a class of errors is met."""

    action: Action
    sentence: str
    """Shown to the user; `{model}` is replaced."""
    hint: str = ""
    is_billed: bool = False
    """Whether the provider may have charged for the call that died; booked at its maximum then."""


_KEY_HINT = "put the right key in `{key}`, or name another variable in `[proposer] api_key_env`"

TABLE: Mapping[str, Fault] = {
    "RateLimitError": Fault("wait", "`{model}` limits the rate of calls"),
    "ServiceUnavailableError": Fault("wait", "`{model}` is not available"),
    "BadGatewayError": Fault("wait", "the gateway to `{model}` fails"),
    "InternalServerError": Fault("wait", "the server of `{model}` fails"),
    "APIConnectionError": Fault(
        "wait", "`{model}` cannot be reached", "check the network and `[proposer] api_base`"
    ),
    "Timeout": Fault(
        "wait",
        "`{model}` did not answer in time",
        "raise `[proposer] timeout_seconds`",
        is_billed=True,
    ),
    "APIError": Fault("wait", "`{model}` answered with an error", is_billed=True),
    "MidStreamFallbackError": Fault("wait", "`{model}` broke off its answer", is_billed=True),
    "AuthenticationError": Fault("pause", "`{model}` does not accept the key", _KEY_HINT),
    "PermissionDeniedError": Fault(
        "pause", "the key may not use `{model}`", "use a model that the account may use"
    ),
    "PaymentRequiredError": Fault("pause", "the account of `{model}` has no credit", "add credit"),
    "BudgetExceededError": Fault("pause", "the budget of `{model}` is spent", "raise it"),
    "NotFoundError": Fault(
        "pause", "`{model}` does not exist", 'correct `[proposer] model = "provider/name"`'
    ),
    "LiteLLMUnknownProvider": Fault(
        "pause",
        "`{model}` names no known provider",
        'write `[proposer] model = "provider/name"`, for example "openai/gpt-5"',
    ),
    "ContextWindowExceededError": Fault("shrink", "the prompt is too long for `{model}`"),
    "ContentPolicyViolationError": Fault("simplify", "`{model}` refuses the prompt"),
    "BadRequestError": Fault("simplify", "`{model}` rejects the request"),
}

UNKNOWN = Fault("wait", "`{model}` cannot be asked", is_billed=True)


def find_fault(error: BaseException) -> Fault:
    """Return the row of an error: of its class or the nearest class above it; a status says more than a broad class.

    litellm calls it an error of the server, or just an error, when there was none to connect to; its cause says so.
    """
    if type(error).__name__ in ("InternalServerError", "APIError") and _is_unconnected(error):
        return TABLE["APIConnectionError"]
    if any(_NO_CREDIT in (getattr(e, "code", None), _code_in_body(e)) for e in _chain(error)):
        return TABLE["PaymentRequiredError"]
    names = [_ALIASES.get(cls.__name__, cls.__name__) for cls in type(error).__mro__]
    name = next((name for name in names if name in TABLE), "")
    status = getattr(error, "status_code", None)
    if name in _BROAD and status in _BY_STATUS:
        name = _BY_STATUS[status]
    elif not name and isinstance(status, int) and status >= 400:
        name = "BadRequestError" if status < 500 else "InternalServerError"
    return TABLE.get(name, UNKNOWN)


_NO_CREDIT = "insufficient_quota"
"""Code with which OpenAI and others say, at status 429, that the account is empty."""


def _code_in_body(error: BaseException) -> object:
    """Return `error.code` of the provider's answer, None where there is none."""
    body = getattr(error, "body", None)
    if body is None:
        with contextlib.suppress(Exception):
            body = json.loads(error.response.text)  # type: ignore[attr-defined]
    inner = body.get("error", body) if isinstance(body, Mapping) else None
    return inner.get("code") if isinstance(inner, Mapping) else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those it was raised from: litellm's own may lack what the provider's client says."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _is_unconnected(error: BaseException) -> bool:
    return any(type(e).__name__ in ("APIConnectionError", "ConnectError") for e in _chain(error))


_BROAD = {"", "APIError", "BadRequestError", "APIConnectionError"}
_BY_STATUS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    402: "PaymentRequiredError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    408: "Timeout",
    422: "BadRequestError",
    429: "RateLimitError",
    502: "BadGatewayError",
    503: "ServiceUnavailableError",
    504: "Timeout",
}
_ALIASES = {
    "APITimeoutError": "Timeout",
    "TimeoutError": "Timeout",
    "TimeoutException": "Timeout",  # of httpx and httpx2, which litellm lets through here and there
    "ConnectError": "APIConnectionError",
    "OSError": "APIConnectionError",
}


def wait_seconds(num_failures: int, retry_after: float | None, rng: random.Random) -> float:
    """Return how long to wait before asking again.

    Args:
        num_failures: In a row, this one included.
        retry_after: What the provider asked for.
        rng: For the jitter, so that several labs do not ask at once.

    Returns:
        Seconds: 5 doubling up to 900, up to a quarter more; at least `retry_after`, up to an hour.
    """
    doublings = min(max(0, num_failures - 1), 12)
    wait = min(FIRST_WAIT_SECONDS * 2.0**doublings, LONGEST_WAIT_SECONDS)
    wait *= 1 + 0.25 * rng.random()
    return max(wait, min(retry_after or 0.0, 3600.0))


def retry_after_of(error: BaseException) -> float | None:
    """Return the seconds a provider asked to wait, from its `Retry-After` header, if any."""
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None) or getattr(error, "litellm_response_headers", None)
    try:
        return max(0.0, float(headers["retry-after"])) if headers else None
    except (KeyError, TypeError, ValueError):
        return None
