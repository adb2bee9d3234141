"""Constants in source text: `pytest tests/proposer/test_constants.py`."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proposer_sample import TRAIN

from autoresearch.proposer.search import constants, ranges


def by_name(text: str = TRAIN) -> dict[str, constants.Constant]:
    return {c.name: c for c in constants.parse(text).constants}


def test_finds_module_level_numbers_only() -> None:
    assert list(by_name()) == [
        "DEPTH",
        "HEAD_DIM",
        "N_EMBD",
        "MLP_RATIO",
        "ROPE_BASE",
        "MATRIX_LR",
        "EMBEDDING_LR",
        "ADAM_BETAS[0]",
        "ADAM_BETAS[1]",
        "WEIGHT_DECAY",
        "TOTAL_BATCH",
        "DEVICE_BATCH",
        "WARMDOWN_FRAC",
        "SEED",
        "VOCAB_SIZE",
    ]
    assert by_name()["TOTAL_BATCH"].value == 16384


def test_replacing_keeps_everything_else() -> None:
    program = constants.parse(TRAIN)
    text = constants.replace(
        program,
        {"TOTAL_BATCH": 32768, "DEVICE_BATCH": 4096, "MATRIX_LR": 0.02, "ADAM_BETAS[1]": 0.9},
    )
    expected = (
        TRAIN.replace("2**14", "2**15")
        .replace("1 << 11", "1 << 12")
        .replace("= 0.04 ", "= 0.02 ")
        .replace("(0.8, 0.95)", "(0.8, 0.9)")
    )
    assert text == expected


@pytest.mark.parametrize(
    ("value", "like", "expected"),
    [
        (20_000.0, "10_000.0", "20_000.0"),
        (20000, "10_000", "20_000"),
        (0.0003, "6e-4", "3e-4"),
        (0.3, "6e-1", "0.3"),
        (3000, "2**12", "3000"),
        (2, "4", "2"),
        (1.0, "0.5", "1.0"),
    ],
)
def test_numbers_are_written_as_before(value: float, like: str, expected: str) -> None:
    assert constants.format_number(value, like) == expected
    assert ast.literal_eval(expected) == value


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_line_endings_and_unicode_before_a_value(newline: str) -> None:
    text = TRAIN.replace("\n", newline).replace("DEPTH = 4 ", "é = 1; DEPTH = 4 ")
    changed = constants.replace(constants.parse(text), {"DEPTH": 8, "WARMDOWN_FRAC": 0.25})
    assert changed == text.replace("DEPTH = 4", "DEPTH = 8").replace("FRAC = 0.5", "FRAC = 0.25")


def test_a_form_feed_does_not_shift_lines() -> None:
    text = "A_LR = 1.0\n\x0c\nB_LR = 2.0\n"
    changed = constants.replace(constants.parse(text), {"B_LR": 3.0})
    assert changed == "A_LR = 1.0\n\x0c\nB_LR = 3.0\n"


def test_a_constant_assigned_twice_is_left_alone() -> None:
    assert list(by_name("A = 1\nB = 2\nA = 3\n")) == ["B"]


def test_assertions_and_comments_constrain() -> None:
    program = constants.parse(TRAIN)
    assert program.broken({"TOTAL_BATCH": 32768}) is None
    assert program.broken({"TOTAL_BATCH": 1024}) is not None
    assert program.broken({"N_EMBD": 288}) is not None
    assert program.broken({"N_EMBD": 320}) is None
    assert program.broken({"HEAD_DIM": 128, "N_EMBD": 384}) is None
    raising = constants.parse("A = 4\nB = 2\nif A % B:\n    raise ValueError\n")
    assert raising.broken({"B": 3}) is not None


def test_derived_constants_follow() -> None:
    program = constants.parse("A = 4\nB = A * 64\nassert B % 128 == 0\n")
    assert program.values({"A": 3})["B"] == 192
    assert program.broken({"A": 3}) is not None
    assert program.broken({"A": 6}) is None


def test_changed_names_constants_and_nothing_else() -> None:
    after = TRAIN.replace("0.04", "0.02").replace("# rotary base", "# other words")
    assert constants.changed(TRAIN, after) == {"MATRIX_LR": 0.02}
    assert constants.changed(TRAIN, TRAIN.replace("LOCAL = 3", "LOCAL = 4")) is None
    assert constants.changed(TRAIN, TRAIN + "\nX = 1\n") is None
    assert constants.changed(TRAIN, "def") is None
    assert constants.changed(TRAIN, TRAIN) == {}


@pytest.mark.parametrize(
    ("line", "scale", "low", "high"),
    [
        ("MATRIX_LR = 0.04  # [0.02, 0.16]", "log", 0.02, 0.16),
        ("MATRIX_LR = 0.04", "log", 0.01, 0.16),
        ("BATCH = 64", "octaves", 16, 256),
        ("BATCH = 64  # range 1 to 128", "octaves", 16, 128),
        ("BATCH = 96  # power of two times 3", "octaves", 24, 384),
        ("CONTEXT = 512  # at most max_seq_len", "octaves", 128, 1024),
        ("DEPTH = 4  # at most 6", "steps", 2, 6),
        ("DEPTH = 4", "steps", 2, 8),
        ("DEPTH = 8  # range 1 to 32", "steps", 4, 16),
        ("EVERY = 2  # 0 is none; range 0 to 8", "steps", 0, 6),
        ("SHORT_WINDOW = 0  # 0 is all; range 0 to 2048", "choices", 0, 1024),
        ("WIDTH = 192  # multiple of 64", "steps", 64, 448),
        ("SOFTCAP = 15.0  # between 5 and 30", "linear", 6.25, 23.75),
        ("COOLDOWN = 0.75  # share; range 0 to 1", "linear", 0.4, 1.0),
        ("FINAL_LR = 0.05  # share; range 0 to 1", "soft", 0.0, 0.2),
        ("EMBED_DECAY = 0.001  # range 0 to 0.1", "soft", 0.0, 0.004),
        ("WARMDOWN_FRAC = 0.5", "linear", 0.15, 0.85),
        ("WARMUP_FRAC = 0.0", "linear", 0.0, 0.105),
        ("MOMENTUM = 0.95", "momentum", 0.8, 0.9875),
        ("BETA2 = 0.95  # range 0.9 to 0.999", "momentum", 0.9, 0.9875),
        ("WEIGHT_DECAY = 0.0", "linear", 0.0, 0.2),
        ("N_KV = 2  # one of 1, 2 or 4", "choices", 1, 4),
        ("ROPE = 10_000.0  # 1e3 to 1e6", "log", 2.5e3, 4e4),
        ("DEPTH = 4  # 2 to 4x faster than 12 to 16", "steps", 2, 4),
    ],
)
def test_ranges(line: str, scale: str, low: float, high: float) -> None:
    found = ranges.find_range(constants.parse(line).constants[0], {"max_seq_len": 1024})
    assert found is not None
    assert (found.scale, found.low, found.high) == (scale, pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    "line",
    [
        "SEED = 1",
        "DATA_SEED = 3",
        "VOCAB_SIZE = 64",
        "WIDTH = 4  # fixed",
        "EPS = 1e-8",
        "OFFSET = 0",
    ],
)
def test_not_searched(line: str) -> None:
    assert ranges.find_range(constants.parse(line).constants[0]) is None


@given(
    st.sampled_from(
        [
            "LR = 0.04",
            "BATCH = 96",
            "DEPTH = 5",
            "BETA = 0.95",
            "W = 192  # multiple of 64",
            "N = 2  # one of 1,2,5",
        ]
    ),
    st.floats(-40, 40),
)
def test_any_parameter_and_any_move_give_an_allowed_value(line: str, number: float) -> None:
    found = ranges.find_range(constants.parse(line).constants[0])
    assert found is not None
    parameters = found.choices or (number,)
    for value in (found.moved(number), *map(found.decode, parameters)):
        parameter = found.encode(value)
        assert parameter is not None
        assert found.decode(parameter) == value
        assert found.distribution._contains(found.distribution.to_internal_repr(parameter))
        assert isinstance(value, int) == found.constant.is_int
        assert value % found.step == 0 or found.step == 1


UPSTREAM = """
from prepare import MAX_SEQ_LEN
PEAK_FLOPS = 989.5e12
EMBEDDING_LR = 0.9
SCALE = 2.0
TOTAL_BATCH_SIZE = 2**19
DEVICE_BATCH_SIZE = 128
UNUSED = 5
tokens_per_fwdbwd = DEVICE_BATCH_SIZE * MAX_SEQ_LEN
assert TOTAL_BATCH_SIZE % tokens_per_fwdbwd == 0
steps = TOTAL_BATCH_SIZE // tokens_per_fwdbwd
train(EMBEDDING_LR * SCALE, steps)
share = 100 * TOTAL_BATCH_SIZE / PEAK_FLOPS
while True:
    shown = share * 2
    print(f"{shown:.1f} of {SCALE}")
"""


def test_what_is_only_printed_is_not_searched() -> None:
    names = list(by_name(UPSTREAM))
    assert "PEAK_FLOPS" not in names
    assert names == ["EMBEDDING_LR", "SCALE", "TOTAL_BATCH_SIZE", "DEVICE_BATCH_SIZE", "UNUSED"]
    used = UPSTREAM.replace("while True:", "while share > 1:")
    assert "PEAK_FLOPS" in by_name(used)
    assert "PEAK_FLOPS" in by_name(UPSTREAM.replace("    shown =", "    me.shown ="))


def test_an_assertion_over_several_constants_holds_through_variables() -> None:
    program = constants.parse(UPSTREAM, {"MAX_SEQ_LEN": 2048})
    assert program.broken({"TOTAL_BATCH_SIZE": 2**18}) is None
    assert program.broken({"DEVICE_BATCH_SIZE": 64}) is None
    assert program.broken({"DEVICE_BATCH_SIZE": 96}) is not None
    assert program.broken({"TOTAL_BATCH_SIZE": 2**17}) is not None
    assert program.broken({"TOTAL_BATCH_SIZE": 2**17, "DEVICE_BATCH_SIZE": 64}) is None


def test_a_rate_near_one_is_no_momentum() -> None:
    rate = ranges.find_range(by_name(UPSTREAM)["EMBEDDING_LR"])
    assert rate is not None
    assert (rate.scale, rate.high > 1) == ("log", True)
    momentum = ranges.find_range(by_name(UPSTREAM.replace("EMBEDDING_LR", "BETA"))["BETA"])
    assert momentum is not None
    assert momentum.scale == "momentum"
