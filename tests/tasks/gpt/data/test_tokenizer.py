"""The tokenizer gives back what it was given, in any piece size, on any number of threads."""

import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.tasks.gpt.data.pipeline import sample_bytes
from autoresearch.tasks.gpt.data.tokenizer import Tokenizer, cut_text, train

SAMPLE = [
    "The lab keeps 12.5 ideas a night. Don't ask \n\n  why\n",
    "def f(x):\n    return x + 1\n",
] * 20


@pytest.fixture(scope="module")
def tokenizer():
    return train([s.encode() for s in SAMPLE], 300)


@given(text=st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_round_trip(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(0 <= i < tokenizer.bos_id for i in ids)
    assert tokenizer.decode_bytes(ids) == text.encode()


@given(text=st.text(alphabet=" ab1.\n\té中'", max_size=400), limit=st.integers(16, 64))
@settings(max_examples=200, deadline=None)
def test_pieces_join_to_the_text(text, limit):
    data = text.encode()
    pieces = list(cut_text(data, limit))
    assert b"".join(pieces) == data
    for piece in pieces:
        piece.decode()
        assert len(piece) <= limit


@given(
    parts=st.lists(
        st.sampled_from(
            [
                "a",
                "Zb",
                "'s",
                "'",
                " ",
                "  ",
                "\n",
                "\r\n",
                "\n\n",
                "\t",
                "1",
                "12.",
                "-",
                "é",
                "中",
                "\u00a0",
                "#!",
            ]
        )
        | st.text(max_size=3),
        max_size=40,
    )
)
@settings(max_examples=300, deadline=None)
def test_safe_cuts_do_not_change_the_ids(tokenizer, parts):
    data = "".join(parts).encode()
    whole = tokenizer.encode_bytes(data).tolist()
    for at in range(1, len(data)):
        after_line = data[at - 1 : at] == b"\n" and 0x21 <= data[at] <= 0x7E
        if after_line or re.fullmatch(rb"[A-Za-z] [A-Za-z]", data[at - 1 : at + 2]):
            left, right = tokenizer.encode_bytes(data[:at]), tokenizer.encode_bytes(data[at:])
            assert [*left, *right] == whole


@given(text=st.text(alphabet="ab \n\t1-", min_size=40, max_size=400), limit=st.integers(16, 40))
@settings(max_examples=200, deadline=None)
def test_texts_are_cut_at_safe_places_where_there_are_any(text, limit):
    data = text.encode()
    at = 0
    for piece in list(cut_text(data, limit))[:-1]:
        window = range(at + limit // 2, at + limit)
        at += len(piece)
        is_safe = data[at - 1 : at] == b"\n" and 0x21 <= data[at] <= 0x7E
        is_safe |= bool(re.fullmatch(rb"[A-Za-z] [A-Za-z]", data[at - 1 : at + 2]))
        lines = [i for i in window if data[i : i + 1] == b"\n" and 0x21 <= data[i + 1] <= 0x7E]
        assert is_safe or not lines


def test_long_texts_give_the_ids_of_the_whole(tokenizer):
    text = "".join(SAMPLE) * 200
    assert len(text) > 2 * 65_536
    whole = tokenizer._encoding.encode_ordinary(text)
    assert tokenizer.encode(text) == whole


@pytest.mark.parametrize("unit", [" ", "a", "\n", "\t", "-", "1", "中"])
def test_long_runs_are_encoded(tokenizer, unit):
    text = unit * 700_000
    ids = tokenizer.encode_bytes(text.encode())
    assert tokenizer.decode_bytes(ids) == text.encode()
    train([text.encode()], 270)


def test_special_names_in_text_are_text(tokenizer):
    text = "a <|bos|> b <|endoftext|>"
    ids = tokenizer.encode(text)
    assert tokenizer.bos_id not in ids
    assert tokenizer.decode(ids) == text


def test_save_and_load(tokenizer, tmp_path):
    path = tmp_path / "t.tiktoken"
    tokenizer.save(path)
    again = Tokenizer.load(path)
    assert again.vocab_size == tokenizer.vocab_size == 300
    assert again.encode(SAMPLE[0]) == tokenizer.encode(SAMPLE[0])
    assert again.decode_bytes(range(300)) == tokenizer.decode_bytes(range(300))
    path.write_bytes(path.read_bytes().replace(b" 5\n", b" 6\n"))
    with pytest.raises(ValueError, match="rank"):
        Tokenizer.load(path)


def test_same_ranks_on_any_number_of_threads(tokenizer, tmp_path):
    code = (
        "import sys; sys.path[:0] = {path!r}\n"
        "from pathlib import Path\n"
        "from autoresearch.tasks.gpt.data.tokenizer import train\n"
        "train([s.encode() for s in {sample!r}], 300).save(Path({out!r}))\n"
    )
    expected = tmp_path / "expected"
    tokenizer.save(expected)
    for threads in ("1", "4"):
        out = tmp_path / f"ranks{threads}"
        source = code.format(path=sys.path, sample=SAMPLE, out=str(out))
        subprocess.run(
            [sys.executable, "-c", source], check=True, env={"RAYON_NUM_THREADS": threads}
        )
        assert out.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize(
    ("vocab_size", "num_bytes"),
    [
        (300, 10_000_000),
        (2048, 12_500_000),
        (4096, 50_000_000),
        (8192, 200_000_000),
        (65_536, 200_000_000),
    ],
)
def test_a_smaller_vocabulary_is_learned_from_less_text(vocab_size, num_bytes):
    assert sample_bytes(vocab_size) == num_bytes
