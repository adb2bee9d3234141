"""Calls to the hub: tried again where waiting helps, told in words where it does not."""

import time
from collections.abc import Callable
from typing import Any

from autoresearch.errors import AutoresearchError, PrerequisiteError, UsageError

MAX_ATTEMPTS = 5
RETRY_SECONDS = 1.0
"""Wait after the first failure; doubles. A server's own `Retry-After` up to a minute is honoured."""


def patiently(call: Callable[[], Any], what: str) -> Any:
    """Call again after failures that pass: network, 429, 5xx; others become errors in words.

    huggingface_hub lets errors of its HTTP package through, and which package that is depends on its version. The bases
    of its own error are the base of those errors and OSError. hf_xet raises a RuntimeError after minutes of tries, so
    that is not tried again.

    Raises:
        OSError: a file or disk of this machine failed.
    """
    from huggingface_hub import errors

    pause = RETRY_SECONDS
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            return call()
        except (*errors.HfHubHTTPError.__bases__, RuntimeError) as exc:
            status = _status(exc)
            is_passing = status in {None, 408, 429} or status >= 500
            if isinstance(exc, InterruptedError) or _is_local(exc):
                raise
            is_passing = is_passing and not isinstance(exc, RuntimeError)
            if not is_passing or attempt == MAX_ATTEMPTS:
                raise _explain(exc, status, what) from exc
            time.sleep(max(pause, _asked_pause(exc)))
            pause *= 2
    raise AssertionError("unreachable")


def _is_local(exc: BaseException) -> bool:
    import errno

    full = {errno.ENOSPC, errno.EDQUOT}
    return isinstance(exc, OSError) and (exc.filename is not None or exc.errno in full)


def _responses(exc: BaseException | None) -> Any:
    while exc is not None:
        response = getattr(exc, "response", None)
        if response is not None:
            return response
        exc = exc.__cause__ or exc.__context__
    return None


def _status(exc: BaseException) -> int | None:
    response = _responses(exc)
    return None if response is None else int(response.status_code)


def _asked_pause(exc: BaseException) -> float:
    response = _responses(exc)
    value = "" if response is None else response.headers.get("Retry-After", "")
    return min(60.0, float(value)) if value.isdigit() else 0.0


def _explain(exc: BaseException, status: int | None, what: str) -> AutoresearchError:
    from huggingface_hub import errors

    if isinstance(exc, errors.GatedRepoError) or status == 403:
        return PrerequisiteError(
            f"no access to `{what}`",
            hint="accept its terms on its page, then set HF_TOKEN or run `hf auth login`",
            kind="data_missing",
        )
    if isinstance(exc, errors.RevisionNotFoundError):
        return UsageError(
            f"`{what}` has no such revision", hint="leave `@revision` out for the newest"
        )
    if isinstance(exc, errors.RepositoryNotFoundError) or status == 401:
        return PrerequisiteError(
            f"there is no dataset `{what}`, or it needs a token",
            hint="check the name; if it is private, set HF_TOKEN or run `hf auth login`",
            kind="data_missing",
        )
    if status == 404:
        return UsageError(f"the hub has no `{what}`", hint="check the name", kind="data_invalid")
    if status == 429:
        return AutoresearchError(
            f"the hub refuses more requests for `{what}` (429)",
            hint="run `autoresearch prepare` again later: what was fetched is kept; HF_TOKEN raises the limit",
            kind="data_missing",
        )
    reason = str(exc).strip().splitlines()
    return AutoresearchError(
        f"could not fetch `{what}`: {reason[0][:200] if reason else type(exc).__name__}",
        hint="check the network (a mirror is set by HF_ENDPOINT), then run `autoresearch prepare` again:"
        " what was fetched is kept",
        kind="data_missing",
    )
