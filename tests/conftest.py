"""Fixtures shared by all tests: an isolated home, no keys, a fixed terminal."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from autoresearch.util import host

# The same examples on every machine, however slow it is; `nox -s slow` looks for new ones.
settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A script started this in its background; what the tests start must hear Ctrl-C all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point HOME, the caches and git's configuration at an empty folder; drop every key; leave the kernel's caches."""
    monkeypatch.setattr(host, "forget_caches", lambda **_: None)
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(("AUTORESEARCH_", "GIT_", "XDG_")) or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    for name, value in {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
        "COLUMNS": "100",
        "LINES": "40",
        "NO_COLOR": "1",
        "TERM": "xterm-256color",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("FORCE_COLOR", "PAGER", "LESS"):
        monkeypatch.delenv(name, raising=False)
    return home
