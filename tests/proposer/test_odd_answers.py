"""Answers that are nearly right, or none: `pytest tests/proposer/test_odd_answers.py`.

What is tried is exactly what is described; otherwise there is an error that says what was seen.
"""

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st
from proposer_sample import TRAIN, context

from autoresearch.proposer.answers import AnswerError, NoAnswerError, apply_answer, parse_answer
from autoresearch.proposer.edits import check_change

FILES = {"train.py": TRAIN}
HEAD = "HYPOTHESIS: smaller steps\nDESCRIPTION: halve the rate\nTHEME: rates\n"
BLOCK = (
    "<<<<<<< SEARCH\nMATRIX_LR = 0.04        # Muon [0.005, 0.16]\n=======\n"
    "MATRIX_LR = 0.02        # Muon [0.005, 0.16]\n>>>>>>> REPLACE\n"
)
DRAFT = "<<<<<<< SEARCH\nDEPTH = 4               # transformer blocks\n=======\nDEPTH = 9\n>>>>>>> REPLACE\n"
DRAFT_HEAD = "HYPOTHESIS: deeper\nDESCRIPTION: a deeper model\nFILE: train.py\n"
GOOD = f"{HEAD}FILE: train.py\n{BLOCK}"
WANTED = TRAIN.replace("0.04 ", "0.02 ")


def read(text: str) -> tuple[str, str]:
    """Return train.py after an answer, and its description."""
    answer = parse_answer(text, list(FILES))
    return apply_answer(answer, FILES)["train.py"], answer.headings.get("description", "")


def is_good(text: str) -> bool:
    return read(text) == (WANTED, "halve the rate")


MARKS = [
    ("<think>", "</think>"),
    ("<Thinking>", "</Thinking>"),
    ('<thinking type="deep">', "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    ("<unused94>thought", "<unused95>"),
]


@pytest.mark.parametrize(("opened", "closed"), MARKS)
@pytest.mark.parametrize(
    "draft", ["hm", DRAFT_HEAD + DRAFT, "<<<<<<< SEARCH\nhalf", "DESCRIPTION: x"]
)
def test_thinking_is_no_answer(opened: str, closed: str, draft: str) -> None:
    assert is_good(f"{opened}\n{draft}\n{closed}\n{GOOD}")
    assert is_good(f"Well. {opened}{draft}\n{closed}{GOOD}")
    assert is_good(f"{GOOD}\n{opened}\n{draft}\n{closed}\n")
    if "channel" not in opened:
        assert is_good(f"{draft}\n{closed}\n{GOOD}"), "the server kept the opening mark"
    with pytest.raises(NoAnswerError, match="has no end"):
        read(f"{opened}\n{draft}\n{GOOD}")
    with pytest.raises(NoAnswerError, match="holds no edit but nothing"):
        read(f"{opened}\n{draft}\n{closed}\n")


def test_words_of_thinking_in_code_stay() -> None:
    new = 'MATRIX_LR = 0.02; TAGS = "<think>x</think>"\n</think>'
    text = GOOD.replace("MATRIX_LR = 0.02        # Muon [0.005, 0.16]", new)
    assert new in read(text)[0]
    plain = GOOD.replace("smaller steps", "the <think> token is rare")
    assert parse_answer(plain, list(FILES)).headings["hypothesis"] == "the <think> token is rare"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + DRAFT_HEAD + DRAFT, "HYPOTHESIS|twice"),
        (GOOD + GOOD, "stands before HYPOTHESIS|twice"),
        (GOOD + "DESCRIPTION: or deeper\n", "DESCRIPTION"),
        (HEAD + "DESCRIPTION: or deeper\n" + BLOCK, "holds DESCRIPTION twice, at lines 2 and 4"),
        (DRAFT + GOOD, "an edit stands before HYPOTHESIS at line 6"),
        ("For example:\n" + DRAFT + "\n---\n" + GOOD, "an edit stands before HYPOTHESIS"),
        (DRAFT + HEAD, "an edit stands before HYPOTHESIS"),
    ],
)
def test_several_answers_are_none(text: str, said: str) -> None:
    with pytest.raises(AnswerError, match=said):
        read(text)


@pytest.mark.parametrize("note", ["NOTE: then the other rates\n", "THEME: rates\n"])
def test_a_note_may_come_last(note: str) -> None:
    assert is_good(GOOD.replace("THEME: rates\n", "") + note)


@pytest.mark.parametrize(
    "path",
    [
        "./train.py",
        "/home/me/run/train.py",
        "train.py (only file)",
        "`train.py`",
        "train.py:",
        "train.py # it",
    ],
)
def test_paths_that_can_mean_one_file_only(path: str) -> None:
    assert is_good(GOOD.replace("FILE: train.py", f"FILE: {path}"))


@pytest.mark.parametrize("form", ["{}", "**{}**", "- {}", "2. {}", "> {}", "## {}"])
def test_headings_are_read_however_they_are_written(form: str) -> None:
    text = GOOD
    for word in ("HYPOTHESIS:", "DESCRIPTION:", "THEME:", "FILE:"):
        text = text.replace(word, form.format(word.capitalize()))
    assert is_good(text)
    with pytest.raises(AnswerError, match=r"only `train\.py`"):
        read(text.replace("train.py", "judge.py"))


@pytest.mark.parametrize(
    "path", ["../train.py", "sub/train.py", "train.py.bak", "judge.py", "trainXpy"]
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(AnswerError, match=r"may not be changed, only `train.py`"):
        read(GOOD.replace("FILE: train.py", f"FILE: {path}"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (">>>>>>> REPLACE", ">>>>>>> UPDATED", r"line 9 of the answer, `>>>>>>> UPDATED`, looks like a mark"),
        (">>>>>>> REPLACE", ">>>>>>> REPLACE```", r"`>>>>>>> REPLACE```` *`?, looks like"),
        (">>>>>>> REPLACE", ">>>> REPLACE", "looks like a mark"),
        (">>>>>>> REPLACE", "REPLACE", "looks like a mark"),
        (">>>>>>> REPLACE", ">>>>>>>", "looks like a mark"),
        ("<<<<<<< SEARCH", "  <<<<<<< SEARCH", "line 5 of the answer, `<<<<<<< SEARCH`"),
        ("<<<<<<< SEARCH", "> <<<<<<< SEARCH", "line 5 of the answer, `> <<<<<<< SEARCH`"),
        ("<<<<<<< SEARCH", "<<<<<<< search", "line 5"),
        ("<<<<<<< SEARCH", "\ufeff<<<<<<< SEARCH", r"line 5 of the answer, `.ufeff<<<<<<< SEARCH`"),
        ("<<<<<<< SEARCH", "\u200b<<<<<<< SEARCH", r"`.u200b<<<<<<< SEARCH`"),
        ("<<<<<<< SEARCH", "<<<<<<< HEAD", "`<<<<<<< HEAD`"),
        ("<<<<<<< SEARCH\n", "", "`>>>>>>> REPLACE`, looks like"),
        ("=======", "-------", "has no `=======` line"),
        ("=======", "=======\n=======", "has 2 `=======` lines"),
        (">>>>>>> REPLACE\n", "", "not closed"),
        ("=======", "=======\n<<<<<<< SEARCH", "looks like a mark"),
    ],
)  # fmt: skip
def test_marks_that_are_nearly_right_are_quoted(old: str, new: str, said: str) -> None:
    text = GOOD.replace(old, new)
    assert text != GOOD
    with pytest.raises(AnswerError, match=said):
        read(text)
    with pytest.raises(AnswerError):
        read(text + DRAFT)  # The next block is not swallowed.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no edit but nothing"),
        (GOOD.replace("<", "&lt;").replace(">", "&gt;"), "HTML entities"),
        (HEAD + "*** Begin Patch\n*** Update File: train.py\n-a\n+b\n*** End Patch", r"a patch \("),
        (
            HEAD + "```diff\n--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-a\n+b\n```",
            "a unified diff",
        ),
        (HEAD + "```python\nMATRIX_LR = 0.02\n```", "code in a fence, without marks"),
        ('<tool_call>{"name": "edit"}</tool_call>', "a call of a tool"),
        ("I cannot help with that.", "text that begins with `I cannot help"),
        (HEAD, "text that begins with `HYPOTHESIS"),
    ],
)
def test_an_answer_without_an_edit_says_what_was_seen(text: str, said: str) -> None:
    with pytest.raises(NoAnswerError, match=said):
        read(text)


def refusal(after: str, before: str = TRAIN) -> str:
    found = check_change(context(before), {"train.py": after})
    return f"{found.reason}: {found.message}" if found else ""


@pytest.mark.parametrize(
    "line",
    [
        "# ... (other constants unchanged) ...",
        "# ... rest of the file is unchanged ...",
        "# rest of the code",
        "# (the remaining functions stay the same)",
        "# existing code here",
        "    # previous implementation unchanged",
        "# \u2026",
        "# <rest of file omitted>",
        "...",
        "[...]",
        "DEPTH = 5  # ... as before",
        "# Same as before",
        "# everything else remains unchanged",
        "# Everything else is identical",
        "pass  # existing code",
        "raise NotImplementedError  # same as original",
        "# --- rest of train.py ---",
        "# existing imports",
        "# omitted for brevity",
        "# as in the original",
        "# TODO: keep the rest",
        "# keep all other constants",
        '"""... unchanged ..."""',
        "# \u22ee",
        "# \u5176\u4f59\u4ee3\u7801\u4e0d\u53d8",
        "// ... existing code ...",
        "<think>",
        "    [THINK]",
        "</reasoning>",
    ],
)
def test_code_that_is_left_out_is_not_tried(line: str) -> None:
    for after in (
        TRAIN.replace("HEAD_DIM = 64 ", f"{line}\nHEAD_DIM = 32 "),
        f"DEPTH = 2\n{line}\n",
    ):
        assert re.match(r"edit_failed: `train.py` would hold `.*` in place of code", refusal(after))


@pytest.mark.parametrize(
    "line",
    [
        "# cool down over the rest of the budget",
        "# other rates are scaled by depth",
        "# keep the previous value for small models",
        "# the same rate for both",
        "# keep the other heads in float32",
        '"""Return the rest of the batch."""',
        "pass  # nothing to do",
        "# same shape as the original embedding, in bf16",
        "def hook(x): ...",
        'NOTE = "... and so on"',
        "# 1 ... 4",
    ],
)
def test_comments_that_say_something_are_no_gap(line: str) -> None:
    assert refusal(TRAIN.replace("HEAD_DIM = 64 ", f"{line}\nHEAD_DIM = 32 ")) == ""


def test_lines_that_were_there_are_no_gap() -> None:
    old = "# ... rest unchanged\n" + TRAIN
    assert refusal(old.replace("0.04 ", "0.02 "), old) == ""


@pytest.mark.parametrize(
    "word",
    ["def build_model(): pass", "t = Trial.join()", "trial.submit(model)", "evaluate_bpb(m)"],
)
def test_a_program_may_not_lose_what_it_owes_the_lab(word: str) -> None:
    before = f"{TRAIN}\n{word}\n"
    assert refusal(before.replace("0.04 ", "0.02 "), before) == ""
    assert "it cannot be trained or judged" in refusal(WANTED, before)


# -- the parser under a grammar of answers and mutations of them -------------------------------

LINES = TRAIN.split("\n")
UNIQUE = [line for line in LINES if line.strip() and LINES.count(line) == 1]
WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12
)


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, str, str]:
    """An answer, train.py as it must be after it, and its description."""
    chosen = draw(st.lists(st.sampled_from(UNIQUE), min_size=1, max_size=3, unique=True))
    after, blocks = TRAIN, []
    for number, line in enumerate(chosen):
        new = draw(
            st.lists(st.sampled_from([f"new_{number} = 1", "", "if x:", "\tpass"]), max_size=3)
        )
        after = after.replace(line + "\n", "".join(f"{text}\n" for text in new), 1)
        body = "".join(f"{text}\n" for text in new)
        blocks.append(f"<<<<<<< SEARCH\n{line}\n=======\n{body}>>>>>>> REPLACE\n")
    said = draw(st.sampled_from(["halve it", "a <think> token", "x = 2", "\u00e9t\u00e9"]))
    fence = draw(st.sampled_from(["", "```python\n"]))
    head = draw(st.permutations(["HYPOTHESIS: because\n", f"DESCRIPTION: {said}\n", "THEME: t\n"]))
    text = draw(st.sampled_from(["", "Here it is.\n", "---\n"])) + "".join(head)
    text += draw(st.sampled_from(["", "FILE: train.py\n", "## FILE: `./train.py`\n"]))
    text += "".join(f"{fence}{block}{fence and '```'}\n" for block in blocks)
    if draw(st.booleans()):
        opened, closed = draw(st.sampled_from(MARKS))
        text = f"{opened}\n{draw(st.sampled_from(['hm', DRAFT, DRAFT_HEAD + DRAFT]))}\n{closed}\n{text}"
    return text, after, said


def many(test: Callable[..., None]) -> Callable[..., None]:
    """300 examples, always the same; `nox -s slow` looks for new ones, and more."""
    usual = settings()
    test = settings(max_examples=max(300, usual.max_examples))(test)
    return seed(18)(test) if usual.derandomize else test


@many
@given(answers())
def test_an_answer_by_the_grammar_is_read_exactly(made: tuple[str, str, str]) -> None:
    text, after, said = made
    assert read(text) == (after, said)


def mangle(draw: st.DrawFn, text: str) -> str:
    lines = text.split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    is_mark = [i for i, line in enumerate(lines) if re.match(r"[<>=]{7}", line)]
    mark = draw(st.sampled_from(is_mark))
    match draw(st.integers(0, 10)):
        case 0:
            del lines[mark]
        case 1:
            lines[mark] = draw(st.sampled_from([" ", "> ", "\u200b", "\ufeff", "+"])) + lines[mark]
        case 2:
            lines[mark] = lines[mark] + draw(st.sampled_from(["```", " x", ":", "\u200b", ">"]))
        case 3:
            lines[mark] = draw(
                st.sampled_from([">>>>>>> UPDATED", "<<<<<<< HEAD", ">>>>>>>", "---"])
            )
        case 4:
            lines = [*lines, *text.split("\n")]
        case 5:
            lines = [*DRAFT.split("\n"), *lines]
        case 6:
            lines = [*lines, *(DRAFT_HEAD + DRAFT).split("\n")]
        case 7:
            lines = lines[: max(at, 1)]
        case 8:
            lines.insert(at, draw(st.sampled_from([m for pair in MARKS for m in pair])))
        case 9:
            lines = [line.replace("<", "&lt;") for line in lines]
        case _:
            lines.insert(mark, lines[mark])
    return "\n".join(lines)


@many
@given(st.data())
def test_a_mangled_answer_is_read_exactly_or_not_at_all(data: st.DataObject) -> None:
    """Whole blocks may be lost with the end of a text, which the provider reports; none is ever changed or added.

    A mark of thinking in a replacement is read as it stands there, and refused before it is tried.
    """
    text, after, said = data.draw(answers())
    mangled = data.draw(st.composite(lambda draw: mangle(draw, text))())
    try:
        parsed = parse_answer(mangled, list(FILES))
        made = apply_answer(parsed, FILES)["train.py"]
    except AnswerError:
        return
    if {mark for pair in MARKS for mark in pair} & set(made.split("\n")):
        assert "in place of code" in refusal(made)
        return
    allowed = parse_answer(text, list(FILES)).edits
    assert set(parsed.edits) <= set(allowed)
    got = parsed.headings.get("description", said)
    assert got.startswith(said) or said.startswith(got)
    if set(parsed.edits) != set(allowed):
        assert text.startswith(mangled) or "<" in mangled
    else:
        assert made == after


@many
@given(
    st.lists(st.one_of(WORDS, st.sampled_from([*GOOD.split("\n"), *(m for p in MARKS for m in p)])))
)
@example(["<<<<<<< SEARCH", "<think>", ">>>>>>> REPLACE", "</think>"])
def test_any_lines_are_an_answer_or_an_error(lines: list[str]) -> None:
    try:
        read("\n".join(lines))
    except AnswerError:
        return
