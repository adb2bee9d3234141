"""Answers of agents: `pytest tests/proposer/test_answers.py`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.proposer.answers import (
    Answer,
    AnswerError,
    Block,
    WholeFile,
    apply_answer,
    parse_answer,
    read_headings,
    split_lines,
)
from autoresearch.util.text import one_line

FILE = "a = 1\nb = 2\n\ndef f():\n\treturn a\n\na = 1\n"


def answer(*pairs: tuple[str, str], path: str = "train.py") -> str:
    blocks = "".join(
        f"<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n" for search, replace in pairs
    )
    return f"HYPOTHESIS: because\nit helps\nDESCRIPTION: do it\nTHEME: test\nFILE: {path}\n{blocks}"


def edit(text: str, files: dict[str, str] | None = None) -> str:
    files = files or {"train.py": FILE}
    return apply_answer(parse_answer(text, list(files)), files)["train.py"]


def test_reads_headings_and_blocks() -> None:
    parsed = parse_answer(answer(("b = 2\n", "b = 3\n")), ["train.py"])
    assert parsed.headings == {
        "hypothesis": "because it helps",
        "description": "do it",
        "theme": "test",
    }
    assert parsed.edits == (Block("train.py", ("b = 2",), ("b = 3",)),)


def test_headings_in_markdown_and_fences_around_blocks() -> None:
    text = (
        "<think>FILE: x.py</think>**DESCRIPTION:** do `it`\n## FILE: `train.py`\n```python\n"
        + answer(("b = 2\n", "b = 3\n")).split("\n", 5)[5]
    )
    parsed = parse_answer(text + "```\n", ["train.py"])
    assert parsed.headings["description"] == "do `it`"
    assert parsed.edits == (Block("train.py", ("b = 2",), ("b = 3",)),)


def test_replaces_inserts_and_deletes() -> None:
    assert edit(answer(("b = 2\n", "b = 3\n"))) == FILE.replace("b = 2", "b = 3")
    assert edit(answer(("b = 2\n", "b = 2\nc = 3\n"))) == FILE.replace("b = 2\n", "b = 2\nc = 3\n")
    assert edit(answer(("b = 2\n\n", ""))) == FILE.replace("b = 2\n\n", "")


def test_a_whole_file() -> None:
    text = "FILE: train.py\n<<<<<<< WHOLE FILE\n```python\nx = 1\n```\n>>>>>>> END\n"
    assert edit(text) == "x = 1\n"
    assert edit(text, {"train.py": "old\r\nend"}) == "x = 1"
    assert edit(text, {"train.py": "old\r\nend\r\n"}) == "x = 1\r\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("I have no idea", "holds no edit"),
        (
            answer(("b = 2\n", "b = 3\n"), path="judge.py"),
            "`judge.py` may not be changed, only `train.py`",
        ),
        (answer(("b = 2\n", "b = 3\n"), path="../train.py"), "may not be changed"),
        (answer(("a = 1\n", "a = 2\n")), r"matches 2 places \(lines 1, 7\)"),
        (answer(("", "a = 2\n")), "empty search"),
        (answer(("\n", "a = 2\n")), "empty search"),
        (answer(("b = 2\n", "b = 2\n")), "changes nothing"),
        (
            answer(("b = 2\n", "x\n"), ("b = 2\n\n", "y\n")),
            "blocks 1 and 2 of `train.py` overlap at line 2",
        ),
        (answer(("b = 2\n", "x\n"), ("b = 2\n", "y\n")), "overlap"),
        (answer(("b = 3\n", "x\n")), r"(?s)matches nothing.*   2\| b = 2"),
        (
            answer(("    return a\n", "x\n")),
            r"(?s)   5\| \treturn a.*Only the spaces differ.*'\\treturn a'",
        ),
        (answer(("b = 2 \n", "x\n")), "Only the spaces differ"),
        ("<<<<<<< SEARCH\nb = 2\n=======\nb = 3\n", "not closed: the answer was cut off"),
        ("<<<<<<< SEARCH\nb = 2\n>>>>>>> REPLACE\n", "has no `=======` line"),
        (
            answer(("b = 2\n", "x\n")) + "<<<<<<< WHOLE FILE\nx\n>>>>>>> END\n",
            "given whole and changed by other blocks",
        ),
    ],
)
def test_refusals_say_what_to_do(text: str, message: str) -> None:
    with pytest.raises(AnswerError, match=message):
        edit(text)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(AnswerError) as raised:
        edit(answer(("zz\n", "x\n"), ("a = 1\n", "y\n")))
    assert "block 1" in str(raised.value)
    assert "block 2" in str(raised.value)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_endings_are_those_of_the_file(ending: str) -> None:
    files = {"train.py": FILE.replace("\n", ending)}
    expected = FILE.replace("b = 2\n", "b = 3\nc = 4\n").replace("\n", ending)
    assert edit(answer(("b = 2\n", "b = 3\nc = 4\n")), files) == expected


def test_no_final_newline_stays_so() -> None:
    assert (
        edit(answer(("b = 2\n", "b = 3\nc = 4\n")), {"train.py": "a = 1\nb = 2"})
        == "a = 1\nb = 3\nc = 4"
    )


def test_unicode_and_form_feeds_are_ordinary_characters() -> None:
    text = 'a = "\u2028\u00e9"\n\x0c\nb = 2\n'
    assert edit(answer(("b = 2\n", "b = 3\n")), {"train.py": text}) == text.replace(
        "b = 2", "b = 3"
    )
    decomposed = 'a = "\u2028e\u0301"\n'
    with pytest.raises(AnswerError, match="matches nothing"):
        edit(answer((decomposed, "x\n")), {"train.py": text})


def test_text_of_people_and_agents_is_one_short_line() -> None:
    assert one_line("a\x1b[31m\nb\tc\x00") == "a b c"
    assert len(read_headings("NOTE: " + "x" * 5000)["note"]) == 1500


LINES = st.lists(
    st.text(st.characters(exclude_characters="\r\n"), max_size=8), min_size=1, max_size=12
)


@given(LINES, st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_splitting_loses_nothing(lines: list[str], has_end: bool, ending: str) -> None:
    text = ending.join(lines) + (ending if has_end else "")
    assert "".join(split_lines(text)) == text


@given(st.data())
def test_a_unique_run_of_lines_is_replaced_exactly(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 12))
    texts = data.draw(
        st.lists(
            st.text(st.characters(exclude_characters="\r\n"), max_size=6),
            min_size=count,
            max_size=count,
        )
    )
    lines = [f"{i}{text}" for i, text in enumerate(texts)]
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    new = data.draw(LINES)
    ending = data.draw(st.sampled_from(["\n", "\r\n"]))
    has_end = data.draw(st.booleans())
    end = ending if has_end else ""
    block = Block("train.py", tuple(lines[start:stop]), tuple(new))
    if block.search == block.replace:
        return
    after = apply_answer(Answer((block,)), {"train.py": ending.join(lines) + end})["train.py"]
    assert after == ending.join([*lines[:start], *new, *lines[stop:]]) + end


@given(st.permutations(range(5)), st.sets(st.integers(0, 4), min_size=1))
def test_the_order_of_blocks_means_nothing(order: list[int], chosen: set[int]) -> None:
    text = "".join(f"line {i}\n" for i in range(5))
    blocks = tuple(Block("t", (f"line {i}",), (f"new {i}", "more")) for i in order if i in chosen)
    expected = "".join(f"new {i}\nmore\n" if i in chosen else f"line {i}\n" for i in range(5))
    assert apply_answer(Answer(blocks), {"t": text})["t"] == expected


@given(st.text(max_size=300))
def test_any_text_is_either_an_answer_or_an_error(text: str) -> None:
    try:
        apply_answer(parse_answer(text, ["train.py"]), {"train.py": FILE})
    except AnswerError:
        return


@given(st.text(st.sampled_from("ab\n<>= SEARCHREPLACEWHOLEFILEND:"), max_size=200))
def test_mangled_marks_never_crash(text: str) -> None:
    test_any_text_is_either_an_answer_or_an_error.hypothesis.inner_test(text)  # type: ignore[attr-defined]


def test_a_whole_file_edit_is_parsed() -> None:
    parsed = parse_answer("<<<<<<< WHOLE FILE\nx = 1\n>>>>>>> END", ["train.py"])
    assert parsed.edits == (WholeFile("train.py", "x = 1\n"),)
