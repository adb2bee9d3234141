"""What can go wrong with a provider, and what to do about it: one row per class of litellm's exceptions.

By name, so that the table can be read without importing litellm. A class without a row takes that of its nearest base,
or of its HTTP status.
"""

import contextlib
import json
import random
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal

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
    "NotSentError": Fault("pause", "nothing can be sent to `{model}`"),
    "CertificateError": Fault(
        "pause",
        "the certificate of the server of `{model}` is not accepted",
        "is there a portal to sign in at, or `http://` to write for `https://`? Else name the file of your"
        " certificates in `SSL_CERT_FILE`",
    ),
    "UnreadableAnswerError": Fault(
        "wait", "`{model}` answered with something else than a completion", is_billed=True
    ),
    "EmptyAnswerError": Fault("wait", "`{model}` gave an empty answer", is_billed=True),
    "ContextWindowExceededError": Fault("shrink", "the prompt is too long for `{model}`"),
    "ContentPolicyViolationError": Fault("simplify", "`{model}` refuses the prompt"),
    "BadRequestError": Fault("simplify", "`{model}` rejects the request"),
}

UNKNOWN = Fault("wait", "`{model}` cannot be asked", is_billed=True)


def find_fault(error: BaseException) -> Fault:
    """Return the row of an error: of its class or the nearest class above it; a status says more than a broad class.

    litellm calls it an error of the server, or just an error, when there was none to connect to, or when nothing was
    sent; its cause says so.
    """
    if any(map(_is_certificate, _chain(error))):
        return TABLE["CertificateError"]
    if any(type(e).__name__ in _NOT_SENT for e in _chain(error)):
        return TABLE["NotSentError"]
    if type(error).__name__ in ("InternalServerError", "APIError") and _is_unconnected(error):
        return TABLE["APIConnectionError"]
    if any(map(_has_no_credit, _chain(error))):
        return TABLE["PaymentRequiredError"]
    names = [_ALIASES.get(cls.__name__, cls.__name__) for cls in type(error).__mro__]
    name = next((name for name in names if name in TABLE), "")
    status = getattr(error, "status_code", None)
    if name in _BROAD and status in _BY_STATUS:
        name = _BY_STATUS[status]
    elif not name and isinstance(status, int) and status >= 400:
        name = "BadRequestError" if status < 500 else "InternalServerError"
    return TABLE.get(name, UNKNOWN)


_NOT_SENT = {
    *("LocalProtocolError", "UnsupportedProtocol", "InvalidURL"),  # of the client for HTTP
    *("ImportError", "ModuleNotFoundError", "UnicodeEncodeError", "IllegalHeader"),
}
"""Classes of errors of this machine or of the settings: before a byte goes out."""


def _is_certificate(error: BaseException) -> bool:
    """Whether no secure connection was made for what the other side is: a portal, a proxy, plain HTTP."""
    kind = getattr(error, "reason", None)
    return isinstance(error, ssl.SSLCertVerificationError) or (
        isinstance(error, ssl.SSLError) and kind in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")
    )


_NO_CREDIT = {
    *("insufficient_quota", "billing_hard_limit_reached", "insufficient_credits"),
    "billing_not_active",
}
"""Codes with which OpenAI and others say, at any status, that the account is empty. A quota that was exceeded may as
well be one of calls per minute: of the words only those about money count."""
_NO_MONEY = re.compile(
    r"credit balance is too low|insufficient (account )?(balance|credit|fund)", re.IGNORECASE
)


def _has_no_credit(error: BaseException) -> bool:
    codes = {str(getattr(error, "code", "")), str(_body(error).get("code"))}
    return bool(codes & _NO_CREDIT or _NO_MONEY.search(_words(error)))


def _words(error: BaseException) -> str:
    return " ".join(str(getattr(error, "message", "") or error.args).split())


OPTIONS = ("stream_options", "stream", "max_completion_tokens", "max_tokens")
"""What a request says besides the messages, and a provider may refuse."""
_UNFIT_STATUS = (400, 403, 404, 422, 501)


def refused_option(error: BaseException) -> str:
    """Return which of `OPTIONS` a provider's refusal names, by its `param` or else in its words; "" for none.

    A stream that never says why it ended is as good as refused: whole, the answer is known to be so.
    """
    if "before a finish_reason" in _words(error):  # litellm, of a stream that just ends
        return "stream"
    if getattr(error, "status_code", None) not in _UNFIT_STATUS:
        return ""
    bodies = [_body(e) for e in _chain(error)]
    named = [str(body.get("param")) for body in bodies if body.get("param") in OPTIONS]
    found = re.search(rf"\b({'|'.join(OPTIONS)})\b", _words(error))
    return named[0] if named else found.group() if found else ""


def _body(error: BaseException) -> Mapping[str, Any]:
    """Return `error` of the provider's answer; empty where there is none."""
    body = getattr(error, "body", None)
    if body is None:
        with contextlib.suppress(Exception):
            body = json.loads(error.response.text)  # type: ignore[attr-defined]
    inner = body.get("error", body) if isinstance(body, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those it was raised from: litellm's own may lack what the provider's client says."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _is_unconnected(error: BaseException) -> bool:
    return any(type(e).__name__ in ("APIConnectionError", "ConnectError") for e in _chain(error))


_BROAD = {"", "APIError", "BadRequestError", "APIConnectionError", "UnreadableAnswerError"}
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
    """Return the seconds a provider asked to wait, from its `Retry-After` header, a number or a date, if any."""
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None) or getattr(error, "litellm_response_headers", None)
    text = str(headers.get("retry-after") or "") if headers else ""
    with contextlib.suppress(ValueError):
        return max(0.0, float(text))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return None
