"""The notify command: what it is given, and the recipes of the guide, run against stand-ins."""

import json
import os
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from shutil import which
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT / "tests" / "ui"))
import sessions  # noqa: E402

from autoresearch.session.notify import ended, kept, notify  # noqa: E402

GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
RECIPES = [tomllib.loads(line)["notify"] for line in GUIDE.splitlines() if line[:9] == "notify = "]
SESSION = sessions.night(24)
WHAT = "kept #7, \"quoted\" $(touch ran) `touch ran` 'as it is'; \x1b[2J<b>\u2603"
SENTENCE = f"lab nov21: {WHAT.replace(chr(27) + '[2J', '')}"
STAND_IN = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word"; done > "$SEEN"
"""


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (path.exists() and path.read_text()):
        time.sleep(0.02)
    return path.read_text()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run directory; PATH begins with stand-ins for the desktop's programs."""
    (tmp_path / "lab").mkdir()
    for name in ("notify-send", "osascript"):
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(STAND_IN)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    return tmp_path / "lab"


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[Any, bytes]]]]:
    """Return the address of a server, and the headers and bodies it was sent."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append((self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as it:
        threading.Thread(target=it.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{it.server_port}/topic", seen
        it.shutdown()


def test_the_guide_has_a_recipe_for_each() -> None:
    assert [recipe[0] for recipe in RECIPES] == [
        "curl",
        "python3",
        "notify-send",
        "osascript",
        "sh",
    ]


@pytest.mark.parametrize("name", ["curl", "python3"])
def test_a_recipe_sends_the_sentence_as_it_is(
    name: str, lab: Path, server: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if which(name) is None:
        pytest.skip(f"no {name} here")
    address, seen = server
    monkeypatch.setenv("SLACK_WEBHOOK", address)
    recipe = next(r for r in RECIPES if r[0] == name)
    command = [word.replace("https://ntfy.sh/YOUR-TOPIC", address) for word in recipe]
    notify(command, "keep", WHAT, SESSION, lab)
    deadline = time.monotonic() + 60
    while not seen and time.monotonic() < deadline:
        time.sleep(0.02)
    headers, body = seen[0]
    if name == "python3":
        assert headers["Content-Type"] == "application/json"
        body = json.loads(body)["text"].encode()
    assert body.decode() == SENTENCE
    assert not (lab / "ran").exists()


@pytest.mark.parametrize("name", ["notify-send", "osascript"])
def test_a_recipe_shows_the_sentence_on_the_desktop(name: str, lab: Path, tmp_path: Path) -> None:
    recipe = next(r for r in RECIPES if r[0] == name)
    notify(recipe, "keep", WHAT, SESSION, lab)
    words = wait_for(tmp_path / "seen").splitlines()
    assert words == [*recipe[1:], SENTENCE]


def test_a_recipe_writes_the_numbers(lab: Path, tmp_path: Path) -> None:
    notify(RECIPES[-1], "end", WHAT, SESSION, lab)
    best = SESSION.experiment(SESSION.best)
    assert wait_for(tmp_path / "keeps.csv") == f"end,{best.number},{best.score}\n"


def test_the_environment_has_the_numbers_and_the_folder(lab: Path, tmp_path: Path) -> None:
    command = [
        "sh",
        "-c",
        'env | grep ^AUTORESEARCH_ | sort > "$SEEN.part"; mv "$SEEN.part" "$SEEN"',
    ]
    notify(command, "keep", WHAT, SESSION, lab)
    best = SESSION.experiment(SESSION.best)
    assert best.decision is not None
    assert wait_for(tmp_path / "seen").splitlines() == [
        f"AUTORESEARCH_DELTA={best.decision.delta}",
        "AUTORESEARCH_EVENT=keep",
        f"AUTORESEARCH_EXPERIMENT={best.number}",
        f"AUTORESEARCH_FOLDER={lab}",
        "AUTORESEARCH_METRIC=val_bpb",
        f"AUTORESEARCH_P_REAL={best.p_real}",
        f"AUTORESEARCH_SCORE={best.score}",
        "AUTORESEARCH_TAG=nov21",
    ]


def test_the_sentences_have_the_numbers() -> None:
    assert (
        kept(SESSION.experiment(6))
        == "kept #6, 0.99458 -0.00315, P >.99: warmdown over 0.75 of the budget"
    )
    assert ended(SESSION, "hours", "") == (
        "CONFIRMED: -0.00386 +- 0.00060 (-0.39%) on unseen data, 4 fresh seeds; best #23, 0.99375;"
        " ended, the time limit was reached"
    )
    unconfirmed = replace(SESSION, confirmations=())
    assert ended(unconfirmed, "max_cost", "the model cost $10.02") == (
        "NOT CONFIRMED: not measured on fresh seeds yet, expect -0.00290; best #23, 0.99375;"
        " ended, the model cost $10.02"
    )
    first = replace(SESSION, experiments=SESSION.experiments[:1], best=0, confirmations=())
    assert ended(first, "stopped", "") == (
        "the baseline is measured, no idea has been tried yet; best #0, 0.99790;"
        " ended, `autoresearch stop`"
    )
    assert ended(sessions.empty(), "error", "") == (
        "nothing has been measured yet; ended, an error"
    )
