"""Keys, addresses and proxies of the environment: made fit to be sent, or refused by name before anything is sent."""

import importlib.util
import os
import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from autoresearch.errors import PrerequisiteError

_IN_HEADER = re.compile(r"(KEY|TOKEN|SECRET|ORG|ORG_ID|ORGANIZATION|PROJECT|PROJECT_ID)$")
_ADDRESS = re.compile(r"(API_BASE|BASE_URL|ENDPOINT)$")
_UPPER = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
PROXIES = (*_UPPER, *(name.lower() for name in _UPPER))


def tidy(names: Iterable[str]) -> None:
    """Take blanks off the ends of variables, in the environment of this process.

    Raises:
        PrerequisiteError: one holds what cannot be sent in a header, or is no address; names it.
    """
    for name in names:
        value = os.environ.get(name)
        if value is None:
            continue
        if value != value.strip():
            value = os.environ[name] = value.strip()
        if not value:
            del os.environ[name]
        elif _ADDRESS.search(name):
            check_address(value, f"`{name}`", f"`export {name}=http://...`")
        elif bad := _unfit(value):
            raise PrerequisiteError(
                f"`{name}` holds {bad}, which cannot be part of a key",
                hint=f"set it again, `export {name}=...`",
                kind="proposer",
            )


def names_of(prefixes: Iterable[str]) -> list[str]:
    """Return the variables set that begin with a prefix and hold a key, an organisation or an address."""
    starts = tuple(prefixes)
    return [
        name
        for name in os.environ
        if name.startswith(starts) and (_IN_HEADER.search(name) or _ADDRESS.search(name))
    ]


def check_address(value: str, where: str, hint: str) -> None:
    """Check that a request can be sent to an address.

    Raises:
        PrerequisiteError: it has no scheme, no host or no possible port; begins with `where`.
    """
    problem = "is no address"
    try:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or "://" not in value:
            problem = "has no `http://` or `https://` before it"
        elif not parts.hostname:
            problem = "names no host"
        elif re.search(r"[\s\x00-\x20\x7f-\x9f\u200b-\u200f\ufeff]", value):
            problem = "holds a blank or a character that cannot be seen"
        elif parts.port != 0:  # Raises where it is none.
            return
    except ValueError as exc:
        problem = f"is no address: {exc}"
    raise PrerequisiteError(f"{where}, `{value}`, {problem}", hint=hint, kind="proposer")


def check_client() -> None:
    """Check that a client for HTTP can be made here: with these proxies and certificates.

    The package is the one that litellm's clients use today; without it what fails is seen when a model is asked.

    Raises:
        PrerequisiteError: it cannot; names the variables to look at.
    """
    name = next(filter(importlib.util.find_spec, ("httpx", "httpx2")), None)
    if name is None:
        return
    try:
        importlib.import_module(name).Client().close()
    except Exception as exc:
        raise PrerequisiteError(
            f"no request can be sent: {exc}", hint=client_hint(str(exc)), kind="proposer"
        ) from exc


def client_hint(said: str) -> str:
    """Return what to do about an error of a client that sent nothing; names the variables it may come from."""
    names = [name for name in PROXIES if os.environ.get(name)]
    if "socks" in said.lower():
        names = [name for name in names if "socks" in os.environ[name]]
        return f"`pip install socksio`, or unset {_listed(names)}"
    if "certificate" in said.lower() or "ssl" in said.lower():
        names = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
    elif "port" in said.lower():
        names = [name for name in names if name.upper() == "NO_PROXY"] or names
    return f"correct or unset {_listed(names)}" if names else "look at the proxy and at the key"


def proxy_of(address: str) -> str:
    """Return the variable that names the proxy of requests to an address; "" where they go without."""
    parts = urlsplit(address)
    if proxy_bypass(parts.netloc):
        return ""
    names = (f"{parts.scheme}_proxy", "all_proxy")
    either = (spelled for name in names for spelled in (name, name.upper()))
    return next((name for name in either if os.environ.get(name)), "")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _unfit(value: str) -> str:
    """Return what makes a value unfit for a header, in words; nothing where it is fit."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'`":
        return "quotation marks around its value"
    bad = next((c for c in value if not " " <= c <= "~"), "")
    if bad in ("\n", "\r"):
        return "a line break"
    return f"the character U+{ord(bad):04X} ({unicodedata.name(bad, 'control')})" if bad else ""
