import io
import json
import re
import shlex
import shutil
from dataclasses import replace
from functools import lru_cache
from html.parser import HTMLParser

import jsonschema
import pytest
import replay
import sessions

import autoresearch
from autoresearch.errors import PrerequisiteError
from autoresearch.report import arrow, html, markdown, plot
from autoresearch.report.assets import Material, changed_constants, gather
from autoresearch.report.content import build
from autoresearch.types import Verdict

DIFF = """diff --git a/train.py b/train.py
--- a/train.py
+++ b/train.py
@@ -1,2 +1,2 @@
 DEPTH = 8
-WIDTH = 512
+WIDTH = 640  # </pre><script>alert(1)</script>
"""
VOID = {"meta", "input", "br", "img", "link", "hr", "path", "use", "rect"}


class Page(HTMLParser):
    """Collects tags, attributes and text; complains where tags do not nest."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.stack, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID or tag in {"path", "use", "rect"}:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def material(session):
    best = session.best
    return Material(
        net_diff=DIFF,
        diffs={e.number: DIFF for e in session.kept},
        curves={0: sessions.curve(0.998), best: sessions.curve(0.97), 10: sessions.curve(0.98)},
        log_tails={
            e.number: e.trials[-1].result.log_tail
            for e in session.experiments
            if e.trials and e.trials[-1].result.log_tail
        },
        constants=(("WIDTH", "512", "640"),),
    )


@lru_cache
def page(name):
    session = getattr(sessions, name)()
    return html.render(session, material(session), now=sessions.NOW)


def test_the_number_of_real_keeps_is_that_of_the_log():
    from autoresearch.ui.pages.log import render

    session = replace(sessions.night(24), confirmations=())
    lines = [line.plain for line in render(session, width=200, now=sessions.NOW)]
    shown = re.search(
        r"keeps +(about \d+ of \d+ are probably real; may be luck: .*)", "\n".join(lines)
    )
    text = markdown.render(session, now=sessions.NOW).replace("\\#", "#")
    assert f"Of the kept changes {shown[1]}." in text


@pytest.mark.parametrize(
    ("session", "word"),
    [
        (sessions.night(24), "CONFIRMED"),
        (sessions.running(), "NOT CONFIRMED"),
        (replace(sessions.night(3), best=0, confirmations=()), "NO GAIN"),
    ],
)
def test_screen_report_and_picture_begin_with_one_verdict(session, word):
    from autoresearch.ui.pages.log import render
    from autoresearch.ui.summary import summarize

    summary = summarize(session, sessions.NOW)
    said = str(summary.conclusion)
    assert said.startswith(f"{word}: ")
    screen = render(session, width=300, now=sessions.NOW)
    assert screen[2].plain == f"verdict   {said}"
    figure, _ = plot.staircase(session, summary, title=True)
    pretty = said.replace("+-", "\u00b1")
    assert pretty in [text.get_text() for text in figure.axes[0].texts]
    shown = html.render(session, now=sessions.NOW)
    assert f"<strong>{word}</strong> {pretty.removeprefix(word + ': ')}</p>" in shown
    assert f"<title>{word}: GPT of 50.3M parameters on climbmix-400b-shuffle</title>" in shown
    text = re.sub(r"\\(.)", r"\1", markdown.render(session, now=sessions.NOW))
    assert text.split("\n")[2] == f"**{word}:** {pretty.removeprefix(word + ': ')}."


@pytest.mark.parametrize("name", ["empty", "night", "running", "hostile"])
def test_page_is_one_file_without_script_or_network(name):
    text = page(name)
    parsed = Page(text)
    assert not {"script", "link", "iframe", "object", "img"} & set(parsed.tags)
    assert not [a for a in parsed.attributes if a[1].startswith("on")]
    urls = [v for _, n, v in parsed.attributes if n in {"src", "href", "xlink:href", "action"}]
    assert all(v.startswith("#") for v in urls)
    assert "url(http" not in text
    assert "default-src 'none'" in text


@pytest.mark.parametrize("name", ["night", "hostile"])
def test_page_has_headings_tables_and_described_pictures(name):
    text = page(name)
    parsed = Page(text)
    assert parsed.tags.count("h1") == 1
    for heading in (
        "Progress",
        "What was kept",
        "What did not help",
        "Where the time went",
        "Loss curves",
        "Baseline to best",
        "How to reproduce",
    ):
        assert f"<h2>{heading}</h2>" in text
    headers = [a for a in parsed.attributes if a[0] == "th" and a[1] == "scope"]
    assert len(headers) == parsed.tags.count("th")
    labels = [v for t, n, v in parsed.attributes if t == "svg" and n == "aria-label"]
    assert len(labels) == parsed.tags.count("svg") == 4
    assert all(labels)
    assert ("html", "lang", "en") in parsed.attributes


def test_points_say_what_they_are():
    text = page("night")
    assert re.search(
        r"<title>#29  0\.983400  depth 8 -&gt; 9 at the same width</title></use>", text
    )
    assert text.count("<title>#") == 3 * (1 + 94 + 25 - 5)


def test_hostile_text_is_shown_as_text():
    text = page("hostile")
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "{{ 7 * 7 }}" in text
    assert "<img" not in text
    Page(text)


def test_no_sentinel_colour_is_left_in_the_page():
    text = page("night")
    left = re.findall(r"#0[0-9a-b]0[0-9a-b]0[0-9a-b]\b", text)
    assert not left
    assert "var(--plot-keep)" in text


def test_the_page_is_the_same_every_time():
    assert page("running") == page.__wrapped__("running")


def test_a_watched_page_reloads_itself_only_while_the_session_runs():
    assert 'http-equiv="refresh"' in html.render(sessions.running(), is_watched=True)
    assert 'http-equiv="refresh"' not in html.render(sessions.night(9), is_watched=True)
    assert 'http-equiv="refresh"' not in html.render(sessions.running())


def test_the_verdict_comes_first_and_in_words():
    view = build(sessions.night(), now=sessions.NOW)
    assert "-0.02380 (-2.4%) against the baseline" in view.verdict[0]
    assert view.verdict[1].startswith("The largest gains: #29 depth 8 -> 9")
    assert len(view.verdict) == 2  # what was expected says nothing once it was confirmed
    empty = build(sessions.empty())
    assert (str(empty.headline), empty.verdict) == ("nothing has been measured yet", ())
    assert "are probably real; may be luck: #1" in " ".join(build(sessions.running()).verdict)


def test_what_was_measured_again_is_on_the_page_and_in_markdown():
    session = sessions.verified()
    view = build(session, now=sessions.NOW)
    text = " ".join(view.verdict)
    assert (
        "With 30 min of training it holds (-0.0133 \u00b1 0.0015); with DEPTH=12 in both it is not"
        in text
    )
    assert "Left out one at a time: 4 of 25 kept changes carry the gain (#6, #23, #27, #77)" in text
    assert [c.answer for c in view.checks] == ["confirmed", "confirmed", "not confirmed"]
    assert (view.checks[0].delta, view.checks[0].validation) == ("-0.02214 +- 0.00060", "-0.02285")
    found = html.render(session, material(session), now=sessions.NOW)
    Page(found)
    assert "<h2>What was measured again</h2>" in found
    assert "undo it: <code>autoresearch revert 8</code>" in found
    rows = markdown.render(session, material(session), sessions.NOW).split("\n")
    assert any(row.startswith("| 8 |") and "+0.00006 does not" in row for row in rows)
    assert any("with 30 min of training" in row and "-0.0133 +- 0.0015" in row for row in rows)
    assert ">worth</th>" not in page("night")


def test_an_alarm_is_told_in_the_verdict():
    session = sessions.night()
    lost = replace(session.confirmations[0], delta=-0.001, low=-0.002, high=-0.0001, is_alarm=True)
    session = replace(session, confirmations=(lost,))
    view = build(session, now=sessions.NOW)
    assert view.headline.text.endswith("; validation had promised -0.02285")
    assert "the gain on validation does not carry over" in view.alerts[0][0]


def test_repeats_are_flagged_and_the_nearest_miss_named():
    view = build(sessions.night(), now=sessions.NOW)
    theme = next(t for t in view.themes if t.name == "attention")
    assert any(repeat.startswith("tried 9 times: ") for repeat in theme.repeats)
    assert theme.nearest is not None
    assert theme.nearest.delta == min(m.delta for m in theme.misses)


def test_a_search_that_tries_other_values_repeats_nothing():
    session = sessions.night(4)
    words = ["DEPTH 2 -> 1", "DEPTH 1 -> 2", "DEPTH 2 -> 3", "DEPTH 2 -> 3"]

    def with_words(parameters):
        made = [
            replace(
                e, description=text, theme="size", parameters=parameters,
                verdict=Verdict.DISCARD, reason="no_gain",
            )
            for e, text in zip(session.experiments[1:], words, strict=True)
        ]  # fmt: skip
        changed = replace(session, experiments=(session.experiments[0], *made), best=0)
        return build(changed, now=sessions.NOW).themes[0].repeats

    assert with_words({"DEPTH": 1}) == ("tried 2 times: DEPTH 2 -> 3",)
    assert with_words({}) == ("tried 2 times: DEPTH 2 -> 3", "4 variants: DEPTH 2 -> 1")


def test_the_bar_of_the_night_adds_up():
    view = build(sessions.night(), now=sessions.NOW)
    assert sum(s.percent for s in view.night) == pytest.approx(100)
    assert {s.kind for s in view.night} >= {"train", "startup", "judge", "propose", "idle"}
    assert view.summary.busy_share == pytest.approx(0.96, abs=0.01)


def test_markdown_escapes_and_keeps_its_tables():
    session = sessions.hostile()
    text = markdown.render(session, material(session), sessions.NOW)
    assert "<script" not in text.replace("\\<script", "").split("```")[0]
    rows = [line for line in text.split("\n") if line.startswith("|")]
    assert rows
    for row in rows:
        cells = re.split(r"(?<!\\)\|", row)
        assert len(cells) >= 4
    assert text.count("```diff") == 1


def test_constants_that_changed():
    before = {"train.py": b"WIDTH = 512\nDEPTH: int = 8\nname = 1\nOLD = (1, 2)\n"}
    after = {"train.py": b"WIDTH = 640\nDEPTH: int = 8\nname = 2\nNEW = 2 ** 19\n"}
    assert changed_constants(before, after) == (
        ("WIDTH", "512", "640"),
        ("OLD", "(1, 2)", ""),
        ("NEW", "", "2 ** 19"),
    )
    assert changed_constants({"a.py": b"def ("}, {}) == ()


@pytest.mark.parametrize("name", ["empty", "night", "running", "hostile"])
def test_plot_as_picture(name):
    from PIL import Image

    session = getattr(sessions, name)()
    image = Image.open(io.BytesIO(plot.to_bytes(session, "png")))
    assert image.width > 1000
    assert len(image.getcolors(1 << 24)) > 20
    assert plot.to_bytes(session, "svg").startswith(b"<?xml")


def test_labels_do_not_overlap():
    from autoresearch.ui.summary import summarize

    session = sessions.night()
    figure, titles = plot.staircase(session, summarize(session))
    assert sum(map(len, titles.values())) > 100
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    axes = figure.axes[0]
    boxes = [t.get_window_extent(renderer) for t in axes.texts if t.get_text().startswith("#")]
    assert len(boxes) >= 10
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


def test_arrow_table_has_a_row_an_experiment():
    import pyarrow.compute as pc

    session = sessions.night()
    table = arrow.to_arrow(session)
    assert table.num_rows == 126
    assert pc.min(table["score"]).as_py() == pytest.approx(session.experiment(session.best).score)
    assert table["score"].null_count == 6
    assert str(table.schema.field("judged_at").type) == "timestamp[s, tz=UTC]"
    assert len(table["trials"][0].as_py()) == 3
    assert arrow.to_arrow(sessions.empty()).num_rows == 0
    assert autoresearch.to_arrow(session).equals(table)


MADE = {}


@pytest.fixture
def lab(tmp_path, tmp_path_factory, monkeypatch):
    """A copy of a real run directory that is written once."""
    if "lab" not in MADE:
        MADE["lab"] = tmp_path_factory.mktemp("made") / "lab"
        replay.replay(sessions.night(12), MADE["lab"]).close()
    folder = tmp_path / "lab"
    shutil.copytree(MADE["lab"], folder)
    monkeypatch.chdir(folder)
    return folder


def call(verb, *args):
    """Run one verb with the app around it, as `main` does."""
    import importlib

    import typer
    from typer.testing import CliRunner

    from autoresearch.cli import _MODULES
    from autoresearch.commands import as_verb

    app = typer.Typer(rich_markup_mode="markdown", pretty_exceptions_enable=False)

    @app.callback()
    def top():
        """Have sub-commands."""

    module = importlib.import_module(f"autoresearch.commands.{_MODULES.get(verb, verb)}")
    app.command(verb)(as_verb(getattr(module, verb)))
    return CliRunner().invoke(app, [verb, *args])


def test_gather_reads_diffs_curves_and_logs_from_git(lab):
    from autoresearch.commands._common import open_record

    with open_record() as record:
        session = record.session()
        found = gather(record, session)
    assert {0, session.best} <= set(found.curves)
    assert set(found.diffs) == {e.number for e in session.kept}
    assert "+KNOB" in found.net_diff
    assert found.constants


def test_report_command_writes_what_it_says(lab):
    result = call("report")
    assert result.exit_code == 0, result.output
    assert result.stdout == "report.html\n"
    Page((lab / "report.html").read_text())
    for name in ("report.md", "progress.png", "progress.svg"):
        assert call("report", "-o", name).exit_code == 0
        assert (lab / name).stat().st_size > 1000
    value = json.loads(call("report", "--json").stdout)
    assert value["format"] == "html"
    assert not list(lab.glob(".*.part"))


def test_report_to_stdout(lab):
    result = call("report", "-o", "-", "--format", "md")
    assert result.stdout.startswith(
        "# GPT of 50.3M parameters on climbmix-400b-shuffle\n\n**CONFIRMED:** "
    )


@pytest.mark.parametrize(
    ("args", "word"),
    [(["-o", "x.pdf"], "x.pdf"), (["--format", "pdf"], "pdf"), (["-o", "-", "--open"], "stdout")],
)
def test_report_says_what_is_wrong(lab, args, word):
    from autoresearch.errors import UsageError

    result = call("report", *args)
    assert isinstance(result.exception, UsageError)
    assert word in result.exception.message
    assert result.exception.hint


def test_show_in_json_follows_its_schema(lab):
    from autoresearch.ui.pages.as_json import schema

    for name in ("0", "best", "last"):
        result = call("show", name, "--json")
        assert result.exit_code == 0, result.output
        jsonschema.validate(json.loads(result.stdout), schema("show"))


def test_show_has_curve_and_change(lab):
    result = call("show", "best")
    assert "training loss" in result.stdout
    assert "@@" in result.stdout
    assert "revert" in result.stdout


def test_the_baseline_is_not_compared_with_itself(lab):
    result = call("show", "0")
    assert "training loss" in result.stdout
    assert "its parent" not in result.stdout
    assert result.stdout.endswith("\n\nnext: `autoresearch diff baseline best`\n")
    assert json.loads(call("show", "0", "--json").stdout)["parent"] is None


def test_show_names_no_command_that_would_show_nothing(tmp_path, monkeypatch):
    night = sessions.night(1)
    replay.replay(replace(night, experiments=night.experiments[:1]), tmp_path / "lab").close()
    monkeypatch.chdir(tmp_path / "lab")
    result = call("show", "baseline")
    assert result.exit_code == 0
    assert "next:" not in result.stdout


def test_diff_is_plain_when_piped_and_applies(lab):
    import subprocess

    result = call("diff")
    assert result.exit_code == 0
    assert result.stdout.startswith("diff --git a/train.py b/train.py\n")
    subprocess.run(["git", "apply", "--check"], input=result.stdout, text=True, cwd=lab, check=True)


def test_diff_stat_words_and_json(lab):
    from autoresearch.errors import UsageError
    from autoresearch.ui.pages.as_json import schema

    assert re.search(r"train\.py \| +\d+ \++-+", call("diff", "--stat").stdout)
    assert re.search(r"KNOB_\d\d = \[-\d+-\]\{\+\d+\+\}", call("diff", "--words").stdout)
    value = json.loads(call("diff", "--json").stdout)
    jsonschema.validate(value, schema("diff"))
    assert value["delta"] < 0
    assert isinstance(call("diff", "--stat", "--words").exception, UsageError)


def test_log_of_a_record_equals_the_session_it_was_made_from(lab):
    value = json.loads(call("log", "--json", "-n", "0").stdout)
    session = sessions.night(12)
    assert value["summary"]["best"] == session.best
    assert value["summary"]["num_by_verdict"]["keep"] == len(session.kept)
    assert [e["number"] for e in value["experiments"]] == list(range(12, -1, -1))


def test_ids_complete_in_the_shell(lab):
    from autoresearch.commands._common import complete_experiment, complete_tag

    names = [name for name, _ in complete_experiment("b")]
    assert names == ["baseline", "best"]
    assert {name for name, _ in complete_experiment("1")} == {"1", "10", "11", "12"}
    assert complete_tag("n") == ["nov21"]


def test_words_of_log_complete_in_the_shell(lab):
    from autoresearch.commands._common import complete_sort, complete_theme, complete_verdict

    assert complete_verdict("k") == ["keep"]
    assert complete_sort("-p") == ["-p_real"]
    assert "attention" in complete_theme("a")
    assert complete_theme("no such") == []


@pytest.mark.parametrize("has_browser", [True, False])
def test_open_calls_the_browser_or_says_that_there_is_none(lab, monkeypatch, has_browser):
    import webbrowser

    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or has_browser)
    result = call("report", "--open")
    assert result.exit_code == 0
    assert opened == [(lab / "report.html").resolve().as_uri()]
    assert ("no browser could be started" in result.stderr) != has_browser


def test_nothing_that_matches_is_said_on_stderr(lab):
    result = call("log", "--theme", "no such theme")
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert result.stderr.strip() == "no experiment matches"


def test_completion_outside_a_run_directory_is_silent(tmp_path, monkeypatch):
    from autoresearch.commands._common import complete_experiment

    monkeypatch.chdir(tmp_path)
    assert complete_experiment("") == []


FOREIGN = """commit\tval_bpb\tmemory_gb\tstatus\tdescription
a1b2c3d\t0.997900\t44.0\tkeep\tbaseline
b2c3d4e\t0.993200\t44.2\tkeep\tincrease LR to 0.04
c3d4e5f\t1.005000\t44.0\tdiscard\tswitch to GeLU activation
d4e5f6a\t0.000000\t0.0\tcrash\tdouble model width (OOM)
"""


def test_log_and_report_read_the_table_of_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results.tsv").write_text(FOREIGN)
    rows = call("log", "--from", "results.tsv").stdout.rstrip("\n").split("\n")
    values = [dict(zip(rows[0].split("\t"), row.split("\t"), strict=True)) for row in rows[1:]]
    assert [v["delta"] for v in values] == ["", "+0.011800", "-0.004700", ""]
    assert call("log", "--from", "results.tsv", "-q").stdout.endswith("best 0.993200 -0.47%\n")
    assert call("report", "--from", "results.tsv").exit_code == 0
    text = (tmp_path / "report.html").read_text()
    assert "measures -0.004700 (-0.47%) against the baseline" in text
    Page(text)


def test_a_table_of_others_is_not_added_to(tmp_path, monkeypatch):
    from autoresearch.record.results_tsv import read_tsv
    from autoresearch.ui.pages.as_json import schema
    from autoresearch.ui.pages.log import render

    monkeypatch.chdir(tmp_path)
    (tmp_path / "results.tsv").write_text(FOREIGN)
    (tmp_path / "crashes.tsv").write_text(FOREIGN + 3 * FOREIGN[FOREIGN.index("d4e5f6a") :])
    value = json.loads(call("log", "--from", "crashes.tsv", "--json").stdout)
    assert value["summary"]["num_by_verdict"]["crash"] == 4
    assert value["summary"]["alerts"] == []  # how long they took, and why, is nowhere
    rows = [line.split("\t") for line in call("log", "--from", "results.tsv").stdout.splitlines()]
    at = rows[0].index("proposer")
    assert [row[at] for row in rows[1:]] == ["", "", "", "baseline"]
    value = json.loads(call("log", "--from", "results.tsv", "--json").stdout)
    jsonschema.validate(value, schema("log"))
    assert value["experiments"][0]["proposer"] is None
    assert value["experiments"][0]["lines_added"] is None
    assert value["summary"]["next"] is None
    lines = [line.plain for line in render(read_tsv(tmp_path / "results.tsv"), width=200)]
    assert any("  44.0GB  " in line for line in lines)
    assert lines[-1] == "4 of 4 shown; `--kept` the way to the best"


def test_the_report_of_a_table_of_others_says_only_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results.tsv").write_text(FOREIGN)
    text = call("report", "--from", "results.tsv", "-o", "-").stdout
    Page(text)
    for invented in ("by hour", "the band", "How to reproduce", "the record in git", "+0 -0"):
        assert invented not in text
    assert "Made by autoresearch from a results.tsv" in text
    text = call("report", "--from", "results.tsv", "-o", "-", "--format", "md").stdout
    assert "finished: read from a results.tsv\n" in text
    assert "| 1 | increase LR to 0.04 | -0.004700 | -0.004700 | - | 44.2GB | - |" in text
    assert "| crash: unknown | 1 | - | \\#3 |" in text
    assert "How to reproduce" not in text


def test_the_order_of_a_table_of_others_is_not_its_value(tmp_path, monkeypatch):
    from autoresearch.record.results_tsv import read_tsv
    from autoresearch.ui.pages.as_json import schema
    from autoresearch.ui.pages.log import render

    monkeypatch.chdir(tmp_path)
    rows = (
        "a1\t1.389503\t1\tkeep\tbaseline",
        "a2\t1.382862\t1\tkeep\tx",
        "a3\t1.389153\t1\tkeep\ty",
        "a4\t1.38\t1\ttentative\tz",
        "b1\t2.1\t1\tkeep\tbaseline",
        "b2\t2.0\t1\tkeep\tw",
    )
    text = "\n".join(["commit\tval_bpb\tmemory_gb\tstatus\tdescription", *rows]) + "\n"
    (tmp_path / "f.tsv").write_text(text)
    found = call("log", "--from", "f.tsv", "--json")
    jsonschema.validate(value := json.loads(found.stdout), schema("log"))
    assert (value["summary"]["best"], value["summary"]["best_score"]) == (1, 1.382862)
    assert len(value["summary"]["alerts"]) == 3
    for word in ("#2, is worse than the best", "`tentative` 1", "#4 is another baseline"):
        assert f"{word}" in found.stderr
    shown = "\n".join(line.plain for line in render(read_tsv(tmp_path / "f.tsv"), width=160))
    assert "1.389503 -> 1.382862   -0.006641 (-0.48%) on validation   best #1 a2" in shown
    assert "tentative" in shown
    assert "#4 is another baseline" in shown
    text = call("report", "--from", "f.tsv", "-o", "-", "--format", "md").stdout
    assert "measures -0.006641 (-0.48%) against the baseline" in text
    assert "#4 is another baseline" in text.replace("\\", "")


def test_another_session_is_reported_by_its_tag(lab):
    from autoresearch.bootstrap.scaffold import scaffold

    scaffold(lab, preset="cpu", tag="two")
    text = call("report", "--tag", "nov21", "-o", "-", "--format", "md").stdout
    assert text.startswith("# GPT of 50.3M parameters on climbmix-400b-shuffle\n\n**CONFIRMED:** ")
    assert "git switch autoresearch/nov21\n" in text
    text = call("report", "-o", "-", "--format", "md").stdout
    assert text == "# two\n\nnothing has been measured yet.\n\nnothing run yet\n"


def test_only_a_session_that_the_remote_has_can_be_fetched(lab, tmp_path, monkeypatch):
    import subprocess

    from autoresearch.bootstrap.scaffold import scaffold

    subprocess.run(["git", "clone", "-q", str(lab), str(tmp_path / "clone")], check=True)
    monkeypatch.chdir(tmp_path / "clone")
    assert "missing or not whole; fetch it: `git fetch" in call("log").stderr
    scaffold(tmp_path / "clone", preset="cpu", tag="two")
    assert call("log").stderr == "no experiment yet\n"
    subprocess.run(["git", "push", "-q", "origin", "autoresearch/two"], check=True)
    assert call("note", "begun here, whatever a remote has").exception is None


def test_memory_is_the_same_on_the_screen_and_in_the_table(lab):
    from autoresearch.ui import text as f

    row = call("log", "--tsv").stdout.splitlines()[1].split("\t")
    shown = f.memory(json.loads(call("show", "0", "--json").stdout)["experiment"]["peak_memory_mb"])
    assert f"{row[2]}GB" == shown
    assert shown in call("show", "0").stdout


@pytest.mark.parametrize("more", [["--watch"], ["--sessions"], ["--tag", "x"]])
def test_what_a_table_of_others_cannot_do_is_refused(tmp_path, monkeypatch, more):
    from autoresearch.errors import UsageError

    monkeypatch.chdir(tmp_path)
    (tmp_path / "results.tsv").write_text(FOREIGN)
    for verb in ["log"] if more == ["--sessions"] else ["log", "report"]:
        result = call(verb, "--from", "results.tsv", *more)
        assert isinstance(result.exception, UsageError)
        assert result.exception.message == f"`--from` and `{more[0]}` exclude each other"
    assert not (tmp_path / "report.html").exists()


def test_the_list_of_sessions_is_all_of_them_once(lab):
    from autoresearch.errors import UsageError

    for more in (["--watch"], ["--tsv"], ["--tag", "nov21"]):
        assert isinstance(call("log", "--sessions", *more).exception, UsageError)


def contrast(one, two):
    """Return the contrast ratio of two colours as WCAG 2 defines it."""

    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_has_enough_contrast_in_light_and_dark():
    blocks = re.findall(r":root \{(.*?)\}", page("empty"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for text in ("ink", "faint", "warn", "bad", "other", "plot-ink", "plot-faint"):
            for ground in ("paper", "panel"):
                assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
        for ground in ("added", "removed"):
            assert contrast(colors["ink"], colors[ground]) >= 4.5, ground
        for mark in ("keep", "doubtful", "crash", "other", "third"):
            assert contrast(colors[f"plot-{mark}"], colors["paper"]) >= 3, mark


def test_a_clone_says_how_to_fetch_the_record_and_then_shows_it(lab, tmp_path, monkeypatch):
    import subprocess

    before = call("log").stdout
    subprocess.run(["git", "clone", "-q", str(lab), str(tmp_path / "clone")], check=True)
    monkeypatch.chdir(tmp_path / "clone")
    result = call("log")
    assert result.exit_code == 0
    fetch = re.search(r"`(git fetch .*)`", result.stderr)[1]
    verbs = [
        "init .",
        "note x",
        "run",
        "run --dry-run",
        "confirm",
        "show 0",
        "diff",
        "revert 1 -y",
        "report",
    ]
    for verb in [*verbs, "export best"]:
        error = call(*verb.split()).exception
        assert isinstance(error, PrerequisiteError), verb
        assert error.message == "the record of session `nov21` is not in this clone", verb
        assert f"`{fetch}`" in error.hint
    subprocess.run(shlex.split(fetch), check=True)
    assert call("log").stdout == before
    call("note", "x")
    assert call("log").stdout == before


def test_a_clone_on_another_branch_says_what_to_switch_to(lab, tmp_path, monkeypatch):
    import subprocess

    def git(*words):
        identity = ["-c", "user.name=x", "-c", "user.email=x@x"]
        done = subprocess.run(
            ["git", *identity, *words], input="", text=True, check=True, capture_output=True
        )
        return done.stdout.strip()

    before = call("log").stdout
    monkeypatch.chdir(tmp_path)
    git("init", "-q", "--bare", "-b", "main", "remote.git")
    monkeypatch.chdir(tmp_path / "remote.git")
    git("update-ref", "refs/heads/main", git("commit-tree", "-m", "another thing", git("mktree")))
    monkeypatch.chdir(lab)
    hint = call("push", str(tmp_path / "remote.git")).stderr
    git("clone", "-q", str(tmp_path / "remote.git"), str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    error = call("log").exception
    assert error.message.startswith("no run directory")
    assert "`git switch autoresearch/nov21`; or make one with" in error.hint
    for command in re.findall(r"`git (.*?)`", hint):
        git(*shlex.split(command))
    assert call("log").stdout == before
    git("switch", "-q", "main")  # now the branch is no longer only the remote's
    git("remote", "remove", "origin")
    assert "`git switch autoresearch/nov21`" in call("log").exception.hint


def test_a_stream_that_is_not_utf8_gets_question_marks(lab, monkeypatch):
    import os
    import subprocess
    import sys
    from pathlib import Path

    import autoresearch

    (lab / "results.tsv").write_text(FOREIGN.replace("GeLU", "\u6df1 \U0001f680"), encoding="utf-8")
    root = str(Path(autoresearch.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-m", "autoresearch", "log", "--from", "results.tsv"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": root},
        capture_output=True,
        check=True,
    )
    assert b"switch to ? ? activation" in done.stdout
