"""What may be tried: `pytest tests/proposer/test_edits.py`."""

from pathlib import Path

import pytest
from proposer_sample import TRAIN

from autoresearch.proposer.edits import check_files, identity, long_literals


def check(after: str, path: str = "train.py", **more: object) -> str | None:
    values: dict[str, object] = {"max_lines": 100, "max_bytes": 128_000, "tried": {}, **more}
    refusal = check_files({"train.py": TRAIN}, {path: after}, **values)  # type: ignore[arg-type]
    return f"{refusal.reason}: {refusal.message}" if refusal else None


def test_identity_tells_files_apart() -> None:
    assert identity({"a": "1", "b": "2"}) == identity({"b": "2", "a": "1"})
    assert identity({"a": "1"}) != identity({"a": "1\n"})
    assert identity({"ab": "c"}) != identity({"a": "bc"})
    assert identity({"a": "1\r\n"}) == identity({"a": "1\n"})
    assert len(identity({"a": "\udcff"})) == 16


def test_the_record_computes_the_same_identity(tmp_path: Path) -> None:
    from autoresearch.paths import RunDirectory
    from autoresearch.record.record import Record

    (tmp_path / "autoresearch.toml").write_text("")
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
    with Record.create(RunDirectory(tmp_path), "t", ["train.py"]) as record:
        assert record.identity({"train.py": TRAIN.encode()}) == identity({"train.py": TRAIN})


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("0.04 ", "0.02 ", None),
        ("", "", "no_op: the change touches at most"),
        ("# rotary base", "# other", "no_op: the change touches at most"),
        ('"""Train something', '"""Train nothing', "no_op: the change touches at most"),
        ("SEED = 42", "SEED = 137", "seed_only"),
        ("manual_seed(SEED)", "manual_seed(SEED + 1)", "seed_only"),
        ("LOCAL = 3", "LOCAL = (", "syntax: `train.py` is not valid Python at line"),
        ("LOCAL = 3", "LOCAL = '\0'", "syntax: `train.py` is not valid Python: it holds a null"),
        ("LOCAL = 3", "return = 3", "syntax"),
        ("LOCAL = 3", "\n" * 90, "too_long: `train.py` would have"),
        ("LOCAL = 3", f"LOCAL = '{'x' * 128_000}'", "too_long: `train.py` would have 12"),
        ("LOCAL = 3", f"LOCAL = '{'é' * 64_000}'", "too_long: `train.py` would have 12"),
        ("LOCAL = 3", "LOCAL = 'sk-FAKE-value-1'", "edit_failed: `train.py` would hold a key"),
    ],
)
def test_one_reason_each(
    old: str, new: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-FAKE-value-1")
    said = check(TRAIN.replace(old, new, 1) if old else TRAIN)
    if expected is None:
        assert said is None
    else:
        assert said is not None
        assert said.startswith(expected)


def test_a_number_of_any_length_is_a_change() -> None:
    assert check(TRAIN.replace("LOCAL = 3", f"LOCAL = 0x{'f' * 9999}")) is None


def test_a_seed_and_something_else_is_a_change() -> None:
    assert check(TRAIN.replace("SEED = 42", "SEED = 1").replace("0.04 ", "0.02 ")) is None


def test_other_files_are_out_of_scope() -> None:
    said = check("x", path="judge.py")
    assert said == "out_of_scope_edit: `judge.py` may not be changed, only `train.py`"


def test_a_tried_tree_names_its_experiment() -> None:
    after = TRAIN.replace("0.04 ", "0.02 ")
    mine = identity({"train.py": after})
    assert check(after, tried={mine: 17}) == "duplicate: experiment #17 tried exactly these files"
    assert "under trial now (halve it)" in str(check(after, in_flight={mine: "halve it"}))


def test_zero_is_no_limit_of_lines() -> None:
    longer = TRAIN.replace("0.04 ", "0.02 ") + "x = 1\n" * 5000
    assert check(longer, max_lines=10).startswith("too_long")
    assert check(longer, max_lines=0) is None


def test_shortening_a_file_that_is_too_long_is_allowed() -> None:
    assert check(TRAIN.replace("DEBUG = False\n", ""), max_lines=10, max_bytes=10) is None


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("X = 'a'", ""), ("X = [1, 2, 3]", ""), (f"X = '{'a' * 1000}'", "1,000"), (f"X = b'{'a' * 4000}'", "4,000"),
        (f"X = 0x{'f' * 4000}", "2,000"), (f"X = {list(range(500))}", "4,000"), (f"X = f({[[1] * 50] * 10})", "4,000"),
        (f"X = {dict.fromkeys(range(100), 2)}", "1,600"), (f"def f():\n    return 'a' '{'b' * 2000}'", "2,001"),
    ],
)  # fmt: skip
def test_long_literals_of_an_edit_are_found(line: str, size: str) -> None:
    found = long_literals({"train.py": TRAIN}, {"train.py": f"{TRAIN}\n{line}\n"})
    assert [text.partition(": ")[2] for text in found] == ([f"{size} bytes"] if size else [])
    assert long_literals({"train.py": f"{TRAIN}{line}\n"}, {"train.py": f"{line}\n{TRAIN}"}) == []
