import io
import json
import sys
from dataclasses import replace

import pytest
import sessions
from rich.text import Text
from test_log_screen import check_snapshot

from autoresearch.config import load_config
from autoresearch.tasks.gpt import METRIC
from autoresearch.types import MB, Outcome
from autoresearch.ui import console
from autoresearch.ui.charts import Series, chart
from autoresearch.ui.console import OutputMode, make_console
from autoresearch.ui.pages import diffs, show
from autoresearch.ui.pages.listings import print_settings
from autoresearch.ui.progress import PhaseProgress, progress_row
from autoresearch.ui.tables import folded

DIFF = """diff --git a/train.py b/train.py
--- a/train.py
+++ b/train.py
@@ -1,4 +1,4 @@
 DEPTH = 8
-WIDTH = 512  # [bold]model[/bold]
---- a/not a header
+WIDTH = 640  # [bold]model[/bold]
++++ b/not a header
 def main():
diff --git a/old.py b/old.py
deleted file mode 100644
--- a/old.py
+++ /dev/null
@@ -1 +0,0 @@
-x = 1
"""


def text_of(lines):
    return "".join(line.plain.rstrip() + "\n" for line in lines)


@pytest.mark.parametrize("width", [80, 100])
def test_show_screen(width):
    session = sessions.night()
    e = session.experiment(29)
    details = show.Details(
        diff=DIFF, curve=sessions.curve(0.983), parent=session.experiment(27),
        parent_curve=sessions.curve(0.9875), log_tail="step 1\nstep 2\x1b[31m\n",
    )  # fmt: skip
    lines = show.render(session, e, details, width=width, now=sessions.NOW)
    assert "\x1b" not in text_of(lines)
    check_snapshot(f"show_29_{width}.txt", text_of(lines))


@pytest.mark.parametrize("width", [40, 60, 80])
def test_show_fits_a_narrow_terminal(width):
    session = sessions.verified()
    e = session.experiment(29)
    why = "measured -0.116931 with noise 0.052578: better with probability 0.68"
    e = replace(e, decision=replace(e.decision, explanation=why))
    details = show.Details(
        curve=sessions.curve(0.983), parent=session.experiment(27),
        parent_curve=sessions.curve(0.9875),
    )  # fmt: skip
    lines = show.render(session, e, details, width=width, now=sessions.NOW)
    assert max(line.cell_len for line in lines) <= width
    text = " ".join(text_of(lines).split())
    assert f"why keep: {why}" in text
    assert "outcome" in text


@pytest.mark.parametrize("indent", [0, 2, 6, 9, 14, 40])
@pytest.mark.parametrize("width", [0, 1, 3, 8, 13, 30])
def test_folding_ends_at_any_width_and_loses_no_word(width, indent):
    text = "val_bpb  0.993100   " + " " * indent + "a description of `some thing` in words 幅 幅"
    for line in (text, " " * 2 * indent + text, " " * 50, "word"):
        found = [part.plain for part in folded(Text(line), width, indent)]
        assert "".join(found).split() == line.split() or " ".join(found).split() == line.split()
        assert all(len(part) - len(part.lstrip()) <= width // 2 for part in found[1:])


def test_folding_never_breaks_what_is_to_be_copied():
    line = Text("say `autoresearch log --tag x` or else `git switch y` at once")
    found = [part.plain for part in folded(line, 24, 2)]
    assert found == [
        "say", "  `autoresearch log --tag x`", "  or else `git switch y`", "  at once",
    ]  # fmt: skip
    assert [part.plain for part in folded(Text("a  b `c d"), 5, 0)] == ["a  b", "`c d"]
    assert [part.plain for part in folded(Text("unbreakable word"), 4, 2)] == [
        "unbreakable",
        "  word",
    ]


@pytest.mark.parametrize("number", range(1, 11))
def test_show_survives_hostile_text(number):
    session = sessions.hostile()
    e = session.experiment(number)
    tail = e.trials[0].result.log_tail
    text = text_of(show.render(session, e, show.Details(log_tail=tail), now=sessions.NOW))
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_diff_counts_lines_and_not_headers():
    found = {s.path: (s.added, s.removed) for s in diffs.stats(DIFF)}
    assert found == {"train.py": (2, 2), "old.py": (0, 1)}
    assert text_of(diffs.stat_lines(DIFF)).endswith(" 2 files changed, +2 -3 lines\n")
    assert text_of(diffs.stat_lines("")) == "no difference\n"


def test_colored_diff_keeps_its_text():
    assert text_of(diffs.colored(DIFF)) == DIFF


def test_words_mark_only_what_changed():
    given = "@@ -1 +1 @@\nWIDTH = [-512-]{+640+}  # \x1b[1mold\n"
    heading, line = diffs.words(given)
    assert line.plain == "WIDTH = [-512-]{+640+}  # old"
    assert [line.plain[s.start : s.end] for s in line.spans] == ["[-512-]", "{+640+}"]
    assert heading.spans[0].style == "place"


def test_chart_has_axes_marks_and_a_legend():
    points = [(float(x), 10 / (x + 1)) for x in range(1, 40)]
    lines = chart([Series("#1", "o", points), Series("#0", ".", points[:20])], width=60, height=8)
    text = text_of(lines)
    assert text.count("|") == 8
    assert "o #1   . #0" in text
    assert all(len(line) <= 60 for line in text.split("\n"))
    assert chart([Series("#1", "o", points[:1])], width=60) == []
    assert chart([Series("flat", "o", [(0, 1.0), (1, 1.0)])], width=30)


def result(**changes):
    return replace(sessions.baseline().trials[0].result, **changes)


def test_trial_on_a_terminal():
    text = text_of(show.trial_lines(result(), METRIC, width=100))
    assert text.startswith("val_bpb   0.997900   audited at 2048 positions")
    assert "start-up 22s" in text
    assert "loss" in text


def test_failed_trial_shows_why_and_the_end_of_its_output():
    failed = result(
        outcome=Outcome.CRASH, reason="oom", detail="asked for 90 GB", score=None, curve=(),
        log_tail="[red]RuntimeError[/red]\x1b[0m: out of memory\n",
    )  # fmt: skip
    text = text_of(show.trial_lines(failed, METRIC))
    assert text.startswith("crash oom: asked for 90 GB")
    assert "  [red]RuntimeError[/red]: out of memory\n" in text


@pytest.mark.parametrize("kind", ["plain", "json", "quiet", "tty"])
def test_trial_in_every_mode(kind, capsys):
    show.print_trial(OutputMode(kind=kind), result(), METRIC)
    out, err = capsys.readouterr()
    assert err == ""
    if kind == "plain":
        assert "val_bpb: 0.997900\n" in out
        assert all(": " in line for line in out.rstrip("\n").split("\n"))
    elif kind == "json":
        value = json.loads(out)
        assert value["score"] == 0.9979
        assert len(value["curve"]) == 60
    elif kind == "quiet":
        assert out == "0.997900\n"


@pytest.mark.parametrize("kind", ["plain", "json", "tty"])
def test_settings_in_every_mode(kind, capsys):
    print_settings(OutputMode(kind=kind), load_config(None, {"trial.budget_seconds": 7.0}))
    out = capsys.readouterr().out
    if kind == "json":
        setting = json.loads(out)["trial.budget_seconds"]
        assert (setting["value"], setting["source"]) == (7.0, "flags")
        assert setting["meaning"] == "Seconds of training in a trial, counted by the lab."
    elif kind == "plain":
        assert "trial.budget_seconds\t7.0\tflags\tSeconds of training in a trial, counted" in out
        assert out.startswith("key\tvalue\tsource\tmeaning\n")
    else:
        assert out.startswith("setting")


def test_progress_in_a_pipe_is_a_line_a_phase(capsys):
    clock = iter(float(i) for i in range(100))
    with PhaseProgress(OutputMode(), clock=lambda: next(clock)) as progress:
        for done in (0, 5 * MB, 10 * MB):
            progress.update("download", done, 10 * MB, unit="B", detail="shard 1")
        progress.update("tokenise", 3, 4)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("download ...\ndownload    10.0 MB  1.0s\ntokenise ...\ntokenise    3  1.0s\n")


def test_progress_is_silent_in_json_and_quiet(capsys):
    for kind in ("json", "quiet"):
        with PhaseProgress(OutputMode(kind=kind)) as progress:
            progress.update("download", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_progress_of_a_phase_that_failed_is_not_reported_as_done(capsys):
    def fail():
        with PhaseProgress(OutputMode()) as progress:
            progress.update("download", 1, 2)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert capsys.readouterr().err == "download ...\n"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_progress_row_fits(width):
    row = progress_row(
        "download", 3e9, 1e10, unit="B", detail="shard_00003.parquet " * 9, seconds=61.0,
        width=width, utf8=True,
    )  # fmt: skip
    assert row.cell_len <= max(width, 36)
    assert "30%" in row.plain


def test_pager_only_when_it_overflows(monkeypatch, tmp_path, capsys):
    seen = tmp_path / "seen"
    script = tmp_path / "page"
    script.write_text(f'#!/bin/sh\ncat > {seen}\nprintf "%s" "$LESS" > {seen}.less\n')
    script.chmod(0o755)
    monkeypatch.setenv("PAGER", str(script))
    mode = OutputMode(kind="tty")
    console.show(mode, ["short"])
    assert not seen.exists()
    assert capsys.readouterr().out == "short\n"
    lines = [f"line {i}" for i in range(200)]
    console.show(mode, lines)
    assert seen.read_text() == "\n".join(lines) + "\n"
    assert (tmp_path / "seen.less").read_text() == "FRX"
    seen.unlink()
    console.show(mode, lines, pager=False)
    console.show(OutputMode(kind="plain"), lines)
    monkeypatch.setenv("PAGER", "cat")
    console.show(mode, lines)
    assert not seen.exists()


def test_what_a_library_prints_appears_above_the_rows():
    from rich.text import Text

    from autoresearch.ui.screen import Rows

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    file = Terminal()
    before = sys.stderr
    sys.stderr = file
    try:
        rows = Rows(make_console(file, width=80, is_terminal=True), lambda _width: [Text("row")])
        rows.start(refresh=True)
        sys.stderr.write("50%\rdone\n")
        rows.stop()
        assert sys.stderr is file
    finally:
        sys.stderr = before
    text = file.getvalue()
    assert "done\nrow" in text
    assert "50%" not in text
