"""Whatever text comes, a screen stays a screen."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from autoresearch.report.markdown import code, escape
from autoresearch.ui import tables
from autoresearch.ui import text as f
from autoresearch.ui.pages.diffs import colored, stats, words

TEXT = st.text(max_size=200)


@given(TEXT)
def test_clean_text_is_printable_and_stays_as_it_is(text):
    once = f.clean(text)
    assert all(c == " " or c.isprintable() for c in once)
    assert f.clean(once) == once


@given(TEXT, st.integers(0, 60))
def test_fit_never_exceeds_its_width(text, width):
    assert cell_len(f.fit(f.clean(text), width)) <= width


@given(st.lists(st.tuples(TEXT, TEXT), max_size=5), st.integers(30, 120))
@settings(max_examples=50)
def test_tables_are_as_wide_as_told(rows, width):
    columns = [tables.Column("#", min_width=3), tables.Column("text", is_flexible=True)]
    cells = [[tables.Cell(str(i)), tables.Cell(f.clean(a + b))] for i, (a, b) in enumerate(rows)]
    lines = tables.render(columns, cells, width)
    assert len(lines) == len(rows) + 1
    assert all(line.cell_len <= width and "\n" not in line.plain for line in lines)


@given(st.lists(st.lists(TEXT, min_size=3, max_size=3), max_size=5))
def test_tsv_has_as_many_fields_as_columns(rows):
    lines = tables.tsv(["a", "b", "c"], rows).split("\n")
    assert len(lines) == len(rows) + 2
    assert all(line.count("\t") == 2 for line in lines[:-1])


@given(st.text(max_size=300))
@settings(max_examples=50)
def test_any_text_may_stand_for_a_diff(text):
    stats(text)
    words(text)
    assert all("\x1b" not in line.plain for line in colored(text))


@given(TEXT, st.integers(20, 100))
@example("0000➰➰⼀⼀", 20)
def test_folded_lines_keep_their_words(text, width):
    from rich.text import Text

    line = "label     " + f.clean(text)
    parts = tables.folded(Text(line), width, 10)
    assert "".join(part.plain for part in parts).split() == line.split() or len(parts) == 1


@given(TEXT)
def test_markdown_escapes_every_special_character(text):
    assert code(f.clean(text)).count("\n") == 0
    escaped = escape(f.clean(text))
    for i, c in enumerate(escaped):
        if c in "`*_[]<>|":
            assert escaped[i - 1] == "\\"
