import pytest
from sessions import HOSTILE

from autoresearch.sandbox.launcher import kernel
from autoresearch.types import GB, MB
from autoresearch.ui import text as f


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0s"),
        (0.42, "0.4s"),
        (38, "38s"),
        (341, "5m41s"),
        (3600, "1h00m"),
        (29_040, "8h04m"),
        (200_000, "2d07h"),
        (59.7, "1m00s"),
        (9.97, "10s"),
        (-5, "-5.0s"),
    ],
)
def test_duration(seconds, text):
    assert f.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (953, "953"),
        (41_234, "41.2k"),
        (1_660_000, "1.66M"),
        (499_600_000, "500M"),
        (999_700, "1.00M"),
    ],
)
def test_count(value, text):
    assert f.count(value) == text


def test_missing_numbers_are_missing():
    for shown in (f.score, f.delta, f.percent, f.probability, f.memory, f.size, f.money):
        assert shown(None) == "-"


@pytest.mark.parametrize(
    ("megabytes", "text"),
    [(812.4, "812MB"), (999.6, "1.0GB"), (44.0 * 1024, "44.0GB"), (80 * 1024, "80.0GB")],
)
def test_memory_is_counted_as_cards_are_sold(megabytes, text):
    assert f.memory(megabytes) == text


def test_a_file_and_memory_of_as_many_bytes_are_as_many_mb():
    assert f.size(500 * MB) == "500.0 MB"
    assert f.memory(500) == "500MB"
    assert f.size(3 * GB) == "3.0 GB"
    assert f.memory(3 * GB / MB) == "3.0GB"
    assert kernel.MB == MB == 2**20  # the launcher imports nothing of the package


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 kB"), (1024**2 - 1, "1.0 MB")]
)
def test_sizes_never_show_1024_of_a_unit(num_bytes, text):
    assert f.size(num_bytes) == text


def test_probability_is_never_certain():
    assert f.probability(0.99999) == ">.99"
    assert f.probability(0.0001) == "<.01"
    assert f.probability(0.5) == "0.50"


@pytest.mark.parametrize("text", HOSTILE)
def test_cleaned_text_is_one_printable_line(text):
    shown = f.clean(text)
    assert shown.isprintable()
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_clean_keeps_lines_when_asked():
    assert f.clean("a\r\nb\tc\x1b[31m!\x1b[0m", lines=True) == "a\nb   c!"


def test_clean_removes_an_unfinished_escape():
    assert f.clean("before \x1b]0;title never ends") == "before"


def test_fit_counts_cells_of_wide_characters():
    from rich.cells import cell_len

    text = f.fit("\u6df1\u5c42\u5b66\u4e60" * 10, 15)
    assert cell_len(text) <= 15
    assert text.endswith("...")


def test_sparkline_spans_the_ramp_and_the_width():
    line = f.sparkline([5 - 0.1 * i for i in range(50)], 8)
    assert len(line) == 8
    assert line[0] == "\u2588"
    assert line[-1] == "\u2581"
    assert f.sparkline([1.0, float("nan")], 8, utf8=False) == "."
    assert f.sparkline([], 8) == ""


@pytest.mark.parametrize("share", [-1, 0, 0.001, 0.5, 0.999, 1, 7])
@pytest.mark.parametrize("utf8", [True, False])
def test_bar_has_its_width(share, utf8):
    assert len(f.bar(share, 20, utf8=utf8)) == 20
