"""Faults of this machine and of the settings, told before anything is sent: `pytest tests/proposer/test_here.py`."""

import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from openai_server import Say, serve
from proposer_sample import context
from test_llm import GOOD, config

from autoresearch.errors import PrerequisiteError
from autoresearch.proposer import variables
from autoresearch.proposer.base import ProposerUnavailableError
from autoresearch.proposer.llm.proposer import LlmProposer
from autoresearch.util.text import redact

NEVER = threading.Event()


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key and no proxy of the machine that runs the tests."""
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name in variables.PROXIES:
            monkeypatch.delenv(name)


@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", " \t{} ", "\u00a0{}"])
def test_blanks_around_a_key_are_taken_off(around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting, name in (("", "OPENAI_API_KEY"), ("MY_KEY", "MY_KEY")):
        monkeypatch.setenv(name, around.format("sk-abcdef-1234567890"))
        with serve(Say("OK"), Say(GOOD)) as server:
            proposer = LlmProposer(config(server.url, api_key_env=setting))
            proposer.check()
            proposer.propose(context(), NEVER)
        assert server.keys == ["Bearer sk-abcdef-1234567890"] * 2
        assert redact("sk-abcdef-1234567890") == f"<{name}>"
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OPENAI_API_KEY", "sk-abc\ndef", "a line break"),
        ("OPENAI_API_KEY", "sk-abc\r\ndef", "a line break"),
        ("OPENAI_API_KEY", "\u201csk-abcdef\u201d", "LEFT DOUBLE QUOTATION MARK"),
        ("OPENAI_API_KEY", "sk-\u200babcdef", r"U\+200B \(ZERO WIDTH SPACE\)"),
        ("OPENAI_API_KEY", "\ufeffsk-abcdef", r"U\+FEFF"),
        ("OPENAI_API_KEY", '"sk-abcdef"', "quotation marks around"),
        ("OPENAI_API_KEY", "sk-\x00abc".replace("\x00", "\x1b"), r"U\+001B"),
        ("OPENAI_ORG_ID", "org\nx", "a line break"),
        ("OPENAI_ORGANIZATION", "\u00e4", "DIAERESIS"),
        ("MY_KEY", "sk-\u00e9", "ACUTE"),
    ],
)
def test_a_key_that_cannot_be_sent_is_refused_by_name(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with serve(Say("OK")) as server:
        setting = name if name == "MY_KEY" else ""
        with pytest.raises(PrerequisiteError, match=rf"`{name}` holds .*{said}") as raised:
            LlmProposer(config(server.url, api_key_env=setting)).check()
    assert raised.value.exit_code == 3
    assert f"export {name}=" in str(raised.value.hint)
    assert value not in raised.value.message
    assert not server.requests


def test_a_key_of_blanks_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", " \n")
    with pytest.raises(PrerequisiteError, match="`MY_KEY` is not set"):
        LlmProposer(config("", api_key_env="MY_KEY")).check()


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("127.0.0.1:11434/v1", "has no `http://`"),
        ("localhost:11434", "has no `http://`"),
        ("ftp://127.0.0.1/v1", "has no `http://`"),
        ("http:/127.0.0.1/v1", "has no `http://`"),
        ("http:///v1", "names no host"),
        ("http://127.0.0.1:80x/v1", "[Pp]ort"),
        ("http://127.0.0.1:99999/v1", "[Pp]ort"),
        ("http://[::1/v1", "is no address"),
        ("http://127.0.0.1:1/ v1", "a blank"),
        ("http://127.0.0.1:1/v1\u200b", "cannot be seen"),
    ],
)
def test_an_address_that_nothing_can_be_sent_to(
    base: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PrerequisiteError, match=rf"`.proposer. api_base`.* {said}") as raised:
        LlmProposer(config(base)).check()
    assert raised.value.exit_code == 3
    assert "http://" in str(raised.value.hint)
    monkeypatch.setenv("OPENAI_BASE_URL", base)
    with pytest.raises(PrerequisiteError, match=r"`OPENAI_BASE_URL`"):
        LlmProposer(config("")).check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1"),
        ("https_proxy", "socks5h://127.0.0.1:1"),
        ("NO_PROXY", "fe80::/10"),
        ("no_proxy", "localhost,[::1]"),
        ("HTTP_PROXY", "http://127.0.0.1:8o80"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "socks" in value:
        monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv(name, value)
    with serve(Say(GOOD)) as server:
        proposer = LlmProposer(config(server.url, api_key_env="K_" + name))
        monkeypatch.setenv("K_" + name, "k" * 9)  # litellm keeps one client for each key.
        with pytest.raises(PrerequisiteError, match="no request can be sent") as raised:
            proposer.check()
        assert raised.value.exit_code == 3
        assert f"`{name}`" in str(raised.value.hint)
        with pytest.raises(ProposerUnavailableError, match="nothing can be sent") as missed:
            proposer.propose(context(), NEVER)
    assert missed.value.retry_seconds == 600
    assert missed.value.usage.cost_usd is None
    assert not server.requests


@pytest.mark.parametrize(
    ("variables", "hint"),
    [
        ({"HTTPS_PROXY": "http://user:geheim99@127.0.0.1:9"}, "`HTTPS_PROXY`"),
        ({"all_proxy": "http://127.0.0.1:9"}, "`all_proxy`"),
        ({"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}, "api_base"),
        ({"HTTP_PROXY": "http://127.0.0.1:9"}, "api_base"),
    ],
)
def test_a_proxy_that_does_not_answer_is_told_as_that(
    variables: dict[str, str], hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MINE", f"k{'-'.join(variables.values())}"[:40])
    proposer = LlmProposer(config("https://127.0.0.1:9/v1", api_key_env="MINE"))
    with pytest.raises(ProposerUnavailableError, match="Connection refused") as raised:
        proposer.check()
    assert hint in str(raised.value.hint)
    assert "geheim99" not in raised.value.message + str(raised.value.hint)


def test_a_proxy_that_asks_for_a_password_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(Say(status=407, raw=b"<h1>Sign in</h1>", kind="text/html")) as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        monkeypatch.setenv("MINE", "kkkkkkkkk407")
        with pytest.raises(ProposerUnavailableError, match="407") as raised:
            LlmProposer(config("http://nowhere.invalid/v1", api_key_env="MINE")).check()
    assert "`HTTP_PROXY`" in str(raised.value.hint)


def test_a_proxy_that_can_be_used_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,::1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with serve(Say("OK")) as server:
        LlmProposer(config(server.url)).check()
    assert len(server.requests) == 1


@contextmanager
def portal(folder: Path) -> Iterator[str]:
    """A portal that answers every secure connection with its own certificate."""
    key, file = folder / "key.pem", folder / "portal.pem"
    line = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=portal"
    made = [*line.split(), "-keyout", str(key), "-out", str(file)]
    subprocess.run(made, check=True, capture_output=True, timeout=120)
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file, key)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make a certificate")
def test_the_certificate_of_a_portal_is_no_outage(tmp_path: Path) -> None:
    with portal(tmp_path) as url:
        proposer = LlmProposer(config(url))
        with pytest.raises(PrerequisiteError, match=r"certificate .* is not accepted") as raised:
            proposer.check()
        assert "SSL_CERT_FILE" in str(raised.value.hint)
        with pytest.raises(ProposerUnavailableError, match="certificate") as missed:
            proposer.propose(context(), NEVER)
        assert missed.value.retry_seconds == 600
    with serve(Say(GOOD)) as server:
        plain = config(server.url.replace("http:", "https:"))
        with pytest.raises(PrerequisiteError, match=r"certificate .* is not accepted") as raised:
            LlmProposer(plain).check()
        assert "`http://`" in str(raised.value.hint)


@pytest.mark.parametrize("module", [None, "httpx2"])
def test_the_http_package_is_no_requirement(module: str | None, monkeypatch) -> None:
    """It is a dependency of litellm, which may take another one."""
    made = []
    client = SimpleNamespace(Client=lambda: SimpleNamespace(close=lambda: made.append(1)))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == module or None)
    monkeypatch.setattr("importlib.import_module", {"httpx2": client}.__getitem__)
    variables.check_client()
    assert len(made) == (module is not None)
