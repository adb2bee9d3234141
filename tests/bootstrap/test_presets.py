"""Presets fit the template and the configuration, and are chosen by the hardware."""

import ast
import dataclasses

import pytest

from autoresearch.bootstrap import presets
from autoresearch.config import load_config
from autoresearch.errors import UsageError
from autoresearch.machine.hardware import describe
from autoresearch.paths import RunDirectory

PRESETS = presets.preset_names()


def constants_of(source):
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }


def test_names():
    assert {"cpu", "demo", "h100"} <= set(PRESETS)
    assert list(presets.templates())[:2] == ["gpt", "compat"]
    assert not presets.is_program("gpt")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_a_run_directory_that_loads(name, tmp_path):
    files = presets.render("gpt", name)
    assert set(files) >= {"train.py", "program.md", "autoresearch.toml", ".gitignore"}
    for path, text in files.items():
        (tmp_path / path).write_text(text, encoding="utf-8")
    config = load_config(RunDirectory(tmp_path)).config
    chosen = presets.load_preset(name)
    assert chosen.numbers.startswith(("measured", "reasoned"))
    assert chosen.device in ("cuda", "rocm", "mps", "cpu", "")
    written = constants_of(files["train.py"])
    assert {k: written[k] for k in chosen.constants} == dict(chosen.constants)
    assert written["CONTEXT"] <= config.trial.max_seq_len
    assert files["train.py"].count("\n") == (
        presets.templates_directory() / "gpt" / "train.py"
    ).read_text(encoding="utf-8").count("\n")


@pytest.mark.parametrize(
    ("kind", "memory_mb", "name"),
    [
        ("cuda", 81_559, "h100"),
        ("cuda", 143_771, "h100"),
        ("cuda", 40_960, "24gb"),
        ("cuda", 24_564, "24gb"),
        ("cuda", 16_380, "12gb"),
        ("cuda", 12_282, "12gb"),
        ("cuda", 8_192, "8gb"),
        ("cuda", 6_144, "8gb"),
        ("rocm", 24_560, "rocm"),
        ("mps", 16_384, "mps"),
        ("cpu", 16_384, "cpu"),
    ],
)
def test_the_hardware_chooses(kind, memory_mb, name):
    hardware = dataclasses.replace(describe(), kind=kind, memory_mb=memory_mb, name="A device")
    choice = presets.choose_preset(hardware)
    assert choice.name == name
    assert choice.why


def test_unknown_names_are_answered_with_the_known():
    with pytest.raises(UsageError, match="unknown preset `h1000`") as caught:
        presets.render("gpt", "h1000")
    assert "h100" in caught.value.hint
    with pytest.raises(UsageError, match="unknown template `bert`"):
        presets.render("bert", "cpu")


def test_setting_a_constant_keeps_its_comment():
    assert presets.set_constants("A = 1  # one\nB = 2\n", {"A": 3}) == "A = 3  # one\nB = 2\n"
    with pytest.raises(KeyError):
        presets.set_constants("A = 1\n", {"C": 3})


@pytest.mark.parametrize("name", PRESETS)
def test_the_search_finds_a_range_for_every_constant(name):
    from autoresearch.proposer.search import constants
    from autoresearch.proposer.search import ranges as space

    chosen = presets.load_preset(name)
    program = constants.parse(presets.render("gpt", name)["train.py"])
    known = {"max_seq_len": chosen.settings["trial"]["max_seq_len"]}
    ranges = {c.name: space.find_range(c, known) for c in program.constants}
    assert {"DEPTH", "WIDTH", "ROWS", "MATRIX_LR", "COOLDOWN"} <= set(ranges)
    assert [key for key, found in ranges.items() if found is None] == []
    assert ranges["CONTEXT"].high <= known["max_seq_len"]
