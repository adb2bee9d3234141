"""The choice of a backend, and that what is said of it is what it does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from autoresearch.errors import PrerequisiteError
from autoresearch.sandbox import EXIT_LIMIT, GUARANTEES, NoSandbox, choose, report, select
from autoresearch.sandbox import select as choice_module
from autoresearch.sandbox.bubblewrap import Bubblewrap
from autoresearch.sandbox.landlock import Landlock
from autoresearch.sandbox.seatbelt import Seatbelt
from autoresearch.sandbox.select import BACKENDS, Probe

ROOT = Path(__file__).resolve().parents[2]


def nothing_works(name: str) -> Probe:
    return Probe(name, None, "bwrap: setting up uid map: Permission denied")


def test_the_strongest_that_works_is_chosen():
    working = [entry for entry in report() if entry.is_working]
    chosen = [entry for entry in report() if entry.is_chosen]
    assert len(chosen) == 1
    assert chosen[0].name == working[0].name
    if chosen[0].name != "none":
        assert choose().name == chosen[0].name


def test_none_needs_the_flag(monkeypatch):
    assert isinstance(choose("none", is_unsafe_allowed=True), NoSandbox)
    assert choose(is_unsafe_allowed=True).name == next(e.name for e in report() if e.is_chosen)
    with monkeypatch.context() as patch:
        patch.setattr(choice_module, "probe", nothing_works)
        assert isinstance(choose(is_unsafe_allowed=True), NoSandbox)
    with pytest.raises(PrerequisiteError, match="runs unread code"):
        choose("none")


def test_a_machine_without_any_says_what_helps(monkeypatch):
    monkeypatch.setattr(choice_module, "probe", nothing_works)
    monkeypatch.setattr(choice_module.bubblewrap, "find", lambda: "/usr/bin/bwrap")
    with pytest.raises(PrerequisiteError, match="no sandbox works") as caught:
        choose()
    assert "apparmor_restrict_unprivileged_userns=0" in caught.value.hint
    assert "--unsafe-no-sandbox" in caught.value.hint
    assert caught.value.exit_code == 3
    monkeypatch.setattr(choice_module.bubblewrap, "find", lambda: None)
    with pytest.raises(PrerequisiteError, match="`bubblewrap` does not work") as caught:
        choose("bubblewrap")
    assert "apt-get install bubblewrap" in caught.value.hint


def test_every_backend_names_every_guarantee():
    for entry in report():
        if entry.is_working:
            assert list(entry.guarantees) == list(GUARANTEES)
        assert entry.detail


def test_the_documented_table_is_true():
    rows = {}
    for line in (ROOT / "docs" / "safety.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and ":" in cells[0]:
            name, meaning = cells[0].split(": ", 1)
            assert GUARANTEES[name] == meaning
            rows[name] = [cell == "yes" for cell in cells[1:]]
    backends = [Bubblewrap("bwrap"), Landlock(6), Seatbelt("sandbox-exec"), NoSandbox()]
    for name in GUARANTEES:
        assert rows[name] == [backend.guarantees[name] for backend in backends]


def test_a_probe_is_quick_and_kept():
    for name in BACKENDS:
        assert select.probe(name) is select.probe(name)


def test_the_launcher_stands_alone():
    """It imports nothing of the package and agrees with it on the exit code of a broken limit."""
    path = ROOT / "autoresearch" / "sandbox"
    code = (
        f"import sys; before = set(sys.modules); sys.path.append({str(path)!r});"
        "from launcher import keep, main; after = set(sys.modules);"
        "import json; print(json.dumps([keep.EXIT_LIMIT, sorted(after - before)]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    exit_code, modules = json.loads(done.stdout)
    assert exit_code == EXIT_LIMIT
    heavy = ("autoresearch", "json", "re", "enum", "pathlib", "subprocess", "socket")
    assert not [name for name in modules if name.partition(".")[0] in heavy]
