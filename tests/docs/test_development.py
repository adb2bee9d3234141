"""Follows the steps of docs/development.md in a copy of the package, and checks the rooms of docs/design.md."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT / "tests" / name) for name in ("ui", "house")]
import replay  # noqa: E402
import sessions  # noqa: E402
from test_imports import FLOORS  # noqa: E402

BLOCK = re.compile(r"`([\w./]+)`[^\n`]*:\n\n```diff\n(.*?)```", re.DOTALL)
ON_A_TERMINAL = """
import sys
from autoresearch.ui.console import OutputMode
mode = OutputMode(kind="tty", is_utf8=True)
OutputMode.derive = classmethod(lambda cls, **_: mode)
from autoresearch.cli import main
raise SystemExit(main(sys.argv[1:]))
"""
PIPED = "from autoresearch.cli import main; raise SystemExit(main(sys.argv[1:]))"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of what the steps touch, in which nothing was changed yet."""
    copy = tmp_path / "copy"
    for name in ("autoresearch", "templates", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "autoresearch.toml"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Return a run directory with a session of six experiments."""
    replay.replay(sessions.night(6), tmp_path / "lab").close()
    return tmp_path / "lab"


def follow(heading: str, copy: Path) -> set[str]:
    """Apply the diffs of a section of the page to the copy; return the files they touch."""
    page = (ROOT / "docs" / "development.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    touched = set()
    for name, diff in BLOCK.findall(section):
        text = (copy / name).read_text(encoding="utf-8")
        for hunk in diff.split("@@\n"):
            lines = hunk.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if line[0] in " -")
            new = "".join(line[1:] for line in lines if line[0] in " +")
            if old:
                assert text.count(old) == 1, f"{name} does not hold once:\n{old}"
                text = text.replace(old, new)
            else:
                text += new
        (copy / name).write_text(text, encoding="utf-8")
        touched.add(name)
    assert touched
    return touched


def run(copy: Path, *arguments: str, cwd: Path) -> str:
    """Return what Python code and its arguments print with the package of the copy."""
    bootstrap = f"import sys; sys.path.insert(0, {str(copy)!r}); "
    done = subprocess.run(
        [sys.executable, "-P", "-c", bootstrap + arguments[0], *arguments[1:]],
        cwd=cwd, env={**os.environ, "COLUMNS": "160"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_verb_is_added_by_the_steps(copy: Path, lab: Path) -> None:
    touched = follow("A verb", copy)
    assert len(touched) + 1 <= 4  # and its test
    line = run(copy, PIPED, "best", cwd=lab)
    assert re.fullmatch(r"\d+ [0-9a-f]{7} 0\.\d{6}\n", line)
    found = json.loads(run(copy, PIPED, "best", "--json", cwd=lab))
    assert line.split()[0] == str(found["number"])
    assert "number, commit and score of the best" in run(copy, PIPED, "best", "--help", cwd=lab)
    generate = f"import runpy; runpy.run_path({str(copy / 'docs/generate_reference.py')!r}, run_name='__main__')"
    run(copy, generate, cwd=copy)
    assert "### best" in (copy / "docs" / "reference.md").read_text(encoding="utf-8")


def test_a_column_is_added_by_the_steps(copy: Path, lab: Path) -> None:
    touched = follow("A column of `log`", copy)
    assert len(touched) + 1 <= 2  # and its test
    screen = run(copy, ON_A_TERMINAL, "log", "--no-pager", cwd=lab).splitlines()
    header = next(line for line in screen if "val_bpb" in line and "verdict" in line)
    at = header.index("judged")
    assert header[at:].split()[:2] == ["judged", "change"]
    times = [line[at : at + 5] for line in screen[screen.index(header) + 1 :]][:7]
    assert all(re.fullmatch(r"\d\d:\d\d", time) for time in times)
    names, *rows = [line.split("\t") for line in run(copy, PIPED, "log", cwd=lab).splitlines()]
    assert names[-2:] == ["judged_at", "description"]
    assert [row[-2][11:16] for row in rows] == times


def test_the_rooms_of_the_design_are_those_of_the_imports() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    named = {
        (int(floor), room.rstrip("/"))
        for floor, rooms in re.findall(r"^\| (\d+) \| (`[^|]+) \|", text, flags=re.MULTILINE)
        for room in re.findall(r"`([^`]+)`", rooms)
    }
    floors = {(number, room) for number, rooms in enumerate(FLOORS, 1) for room in rooms}
    assert named == floors - {(len(FLOORS), "__main__")}
