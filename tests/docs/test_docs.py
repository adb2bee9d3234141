"""The docs say what the program does: outputs are made by commands, the reference by its script."""

import importlib.util
import json
import os
import re
import shlex
import sys
import time
import types
from datetime import timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "ui"))
import replay  # noqa: E402
import sessions  # noqa: E402

BLOCK = re.compile(r"(<!-- made by: (.+?) -->\n```text\n)(.*?)(```\n)", re.DOTALL)
CONFIRMED = " after confirm --each"


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("COLUMNS", "100")
    time.tzset()
    replay.replay(sessions.night(24), tmp_path / "lab").close()
    replay.replay(sessions.verified(24), tmp_path / "confirmed").close()
    monkeypatch.chdir(tmp_path / "lab")
    yield tmp_path / "lab"
    monkeypatch.undo()
    time.tzset()


def output(arguments, monkeypatch, capsys):
    """Return what a verb prints on a terminal of 100 columns, without colour, an hour after the night."""
    from autoresearch.cli import main
    from autoresearch.ui import text as screen_format
    from autoresearch.ui.console import OutputMode

    monkeypatch.setattr(screen_format, "now", lambda: sessions.NOW + timedelta(minutes=70))

    mode = OutputMode(kind="tty", is_utf8=True)
    monkeypatch.setattr(OutputMode, "derive", classmethod(lambda cls, **_: mode))
    monkeypatch.setenv("PAGER", "cat")
    assert main(shlex.split(arguments)) == 0
    return capsys.readouterr().out


def same(text):
    """Take out what differs from run to run: the commits."""
    return re.sub(r"\b[0-9a-f]{7}\b", "0000000", text)


def made_by(command, lab, monkeypatch, capsys):
    """Return what a command prints in the session of the guide, or in the same after more confirmations."""
    folder = lab.parent / "confirmed" if command.endswith(CONFIRMED) else lab
    monkeypatch.chdir(folder)
    return same(output(command.removesuffix(CONFIRMED), monkeypatch, capsys)).rstrip("\n") + "\n"


def test_outputs_in_the_guide_are_what_the_commands_print(lab, monkeypatch, capsys):
    path = ROOT / "docs" / "guide.md"
    text = path.read_text(encoding="utf-8")
    made = BLOCK.sub(lambda m: m[1] + made_by(m[2], lab, monkeypatch, capsys) + m[4], text)
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(made, encoding="utf-8")
    assert BLOCK.search(text)
    assert made == path.read_text(encoding="utf-8")


def test_every_verb_in_the_docs_exists():
    import typer

    from autoresearch.cli import VERBS, app

    known = {verb for verbs in VERBS.values() for verb in verbs}
    assert set(typer.main.get_command(app).commands) <= known
    for path in (ROOT / "docs").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        for verb in re.findall(r"(?:^ {4}|`|\| )autoresearch ([a-z]+)", text, flags=re.MULTILINE):
            assert verb in known, f"{path.name} names `autoresearch {verb}`"


def test_the_readme_is_short_and_its_commands_are_read():
    import typer

    from autoresearch.cli import app

    group = typer.main.get_command(app)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") < 120
    assert "autoresearch demo " in text
    assert "nox -s tests " in text
    lines = re.findall(r"^ {4}(?:.*&& )?autoresearch (.+)$", text, flags=re.MULTILINE)
    assert len(lines) >= 6
    lines += re.findall(r"`autoresearch ([^`]+)`", text)
    for line in lines:
        verb, *words = shlex.split(re.split(" && | [|] ", line)[0], comments=True)
        assert verb in group.commands, line
        with group.commands[verb].make_context(verb, words):
            pass
    for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", text):
        assert (ROOT / target).is_file() or target.startswith("http"), target


def test_the_notebook_is_python_and_its_commands_exist():
    import typer

    from autoresearch.cli import app

    group = typer.main.get_command(app)
    book = json.loads((ROOT / "docs" / "colab.ipynb").read_text(encoding="utf-8"))
    assert (book["nbformat"], {cell["cell_type"] for cell in book["cells"]}) == (
        4,
        {"markdown", "code"},
    )
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    lines = [line.rstrip("\n") for cell in code for line in cell["source"]]
    assert len(lines) <= 10
    verbs = []
    for line in lines:
        assert line.startswith(("!autoresearch ", "!git ", "!pip ", "%cd ")) or compile(
            line, "", "exec"
        )
        if line.startswith("!autoresearch "):
            verb, *words = shlex.split(line, comments=True)[1:]
            group.commands[verb].make_context(verb, words, resilient_parsing=False)
            verbs.append(verb)
    assert verbs == ["init", "doctor", "prepare", "run", "log"]


def test_commands_of_the_gpu_page_exist(monkeypatch, capsys):
    text = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    found = re.findall(r"^ {4}python (bench/train.py) (.*?)(?: >.*)?$", text, re.MULTILINE)
    assert len(found) == 2
    spec = importlib.util.spec_from_file_location("bench_train", ROOT / "bench" / "train.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    texts = {row: text for row, _, text in bench.rows_of(["cpu", "h100"], list(bench.ROWS), True)}
    assert len(texts) == 8
    number = ("200000", "200_000")
    # The preset is the published recipe.
    assert texts["h100"].replace(*number) == texts["h100 public"].replace(*number)
    assert texts["cpu"] != texts["cpu recipe"]
    rows = [
        {"row": r, "seed": s, "score": b + s}
        for r, b in (("cpu", 1), ("cpu recipe", 0.5))
        for s in (1, 2)
    ]
    assert list(bench.differences(rows)) == ["cpu recipe - cpu: -0.500000 +- 0.000000 bpb, 2 pairs"]
    seen = []
    monkeypatch.setattr(bench, "rows_of", lambda names, kinds, _is_gpu: seen.append(kinds) or [])
    monkeypatch.setattr(bench, "choose", lambda **_: types.SimpleNamespace(name="none"))
    for _, words in found:
        monkeypatch.setattr(sys, "argv", ["train.py", *shlex.split(words)])
        bench.main()
    assert seen == [["preset", "reference"], ["preset", "recipe"]]
    assert (ROOT / "tests" / "template" / "test_gpu.py").is_file()


def test_pictures_and_links_of_the_docs_exist():
    for path in (ROOT / "docs").glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).is_file(), f"{path.name} links to {target}"
            if target.endswith(".png"):
                assert (path.parent / target).stat().st_size < 200_000


def test_the_reference_is_made_from_the_code():
    path = ROOT / "docs" / "generate_reference.py"
    spec = importlib.util.spec_from_file_location("generate_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = {"docs/reference.md": module.reference(), "autoresearch.toml": module.settings_file()}
    for name, text in made.items():
        message = f"{name} is stale: run `python docs/generate_reference.py`"
        assert (ROOT / name).read_text(encoding="utf-8") == text, message


def test_the_python_example_runs(lab, monkeypatch, capsys):
    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    block = re.search(r"## Python\n\n((?: {4}.*\n|\n)+)", text)[1]
    (lab.parent / "myrun").symlink_to(lab)
    monkeypatch.chdir(lab.parent)
    names = {}
    exec("\n".join(line[4:] for line in block.split("\n")), names)
    assert names["table"].num_rows == 25
    assert capsys.readouterr().out.startswith("23 0.99375")
