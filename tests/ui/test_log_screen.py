import io
import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import sessions
from rich.cells import cell_len

from autoresearch.commands.log import show_session
from autoresearch.errors import UsageError
from autoresearch.types import Alert
from autoresearch.ui.console import OutputMode, make_console
from autoresearch.ui.pages import log
from autoresearch.ui.pages.as_json import log_json, schema
from autoresearch.ui.pages.rows import Filter, select, verdict_text
from autoresearch.ui.summary import summarize

SNAPSHOTS = Path(__file__).parent / "snapshots"
ALL = ["empty", "night", "verified", "running", "hostile"]


def screen(session, width=100, wanted=None, utf8=True):
    lines = log.render(session, wanted, width=width, utf8=utf8, now=sessions.NOW)
    file = io.StringIO()
    console = make_console(file, width=width)
    for line in lines:
        console.print(line, soft_wrap=True)
    return file.getvalue()


def check_snapshot(name, text):
    """Compare with the stored screen; `UPDATE_SNAPSHOTS=1` writes it anew."""
    import os

    path = SNAPSHOTS / name
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["empty", "night", "running", "hostile"])
@pytest.mark.parametrize("width", [80, 100, 160])
def test_screen_on_a_terminal(name, width):
    check_snapshot(f"log_{name}_{width}.txt", screen(getattr(sessions, name)(), width))


@pytest.mark.parametrize("width", [80, 100, 160])
def test_what_was_measured_again_stands_beside_the_headline(width):
    text = screen(sessions.verified(), width, Filter(num=0, only_kept=True))
    check_snapshot(f"log_verified_{width}.txt", text)


def test_who_proposed_is_shown_where_several_did():
    session = sessions.night()
    assert len({e.proposer for e in session.experiments} - {"baseline"}) == 1
    assert "  by " not in screen(session)
    first, second, *others = session.experiments
    mixed = replace(session, experiments=(first, replace(second, proposer="human"), *others))
    text = screen(mixed, wanted=Filter(num=0))
    assert "verdict" in text
    assert "  by " in text
    assert "  human  " in text
    assert max(map(len, text.splitlines())) <= 100


def test_screen_without_utf8_is_ascii():
    session = sessions.night()
    assert screen(session, utf8=False).isascii()


@pytest.mark.parametrize("width", [40, 60, 72, 80, 100, 160])
@pytest.mark.parametrize("name", ALL)
def test_table_rows_fit(name, width):
    text = screen(getattr(sessions, name)(), width)
    rows = [line for line in text.split("\n") if re.match(r"^ *(#|\d+)  ", line)]
    assert all(cell_len(row) <= width for row in rows)


@pytest.mark.parametrize("width", [40, 60, 72, 80])
@pytest.mark.parametrize("name", ["night", "verified", "running", "empty"])
def test_lines_fit_and_commands_stay_whole(name, width):
    session = getattr(sessions, name)()
    lines = screen(session, width).split("\n")
    assert max(map(cell_len, lines)) <= width
    assert all(line.count("`") % 2 == 0 for line in lines)
    assert sum(line.startswith("next: `autoresearch ") for line in lines) == 1


def test_columns_leave_in_order():
    session = sessions.night()

    def header(width):
        return next(
            line for line in screen(session, width).split("\n") if line.lstrip().startswith("#  ")
        ).split()

    assert {"tok/s", "commit", "took", "mem", "P"} <= set(header(160))
    seen = ["tok/s", "took", "mem", "commit", "P", "vs"]
    for width in range(160, 38, -1):
        columns = set(header(width))
        gone = [c for c in seen if c not in columns]
        assert gone == seen[: len(gone)]
        assert {"verdict", "change", "val_bpb"} <= columns


def test_hostile_text_cannot_reach_the_terminal():
    text = screen(sessions.hostile(), 100)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "[red]markup[/red]" in text


def run(session, capsys, kind, **options):
    show_session(OutputMode(kind=kind), session, **options)
    return capsys.readouterr()


def test_piped_is_a_header_and_rows(capsys):
    session = sessions.hostile()
    out, err = run(session, capsys, "plain", wanted=Filter(num=0))
    rows = [line.split("\t") for line in out.rstrip("\n").split("\n")]
    assert err == ""
    assert len(rows) == 1 + len(session.experiments)
    assert {len(row) for row in rows} == {len(rows[0])}
    assert rows[0][0] == "number"
    assert rows[0][-1] == "description"
    assert any(len(row[-1]) > 1500 for row in rows)


def test_piped_snapshot(capsys):
    out, _ = run(sessions.night(), capsys, "plain", wanted=Filter(num=30))
    check_snapshot("log_night.tsv", out)


def test_empty_session_is_no_error(capsys):
    out, err = run(sessions.empty(), capsys, "plain")
    assert out.count("\n") == 1
    assert err == "no experiment yet\n"


def test_quiet_is_one_line(capsys):
    out, err = run(sessions.running(), capsys, "quiet")
    assert err == ""
    assert out == "nov21 running 19 tried 18 keep 3 best 0.994607 -0.33%\n"


@pytest.mark.parametrize("name", ALL)
def test_json_follows_its_schema(name, capsys):
    out, err = run(getattr(sessions, name)(), capsys, "json", wanted=Filter(num=0))
    assert err == ""
    assert out.isascii()
    value = json.loads(out)
    jsonschema.validate(value, schema("log"))
    assert len(value["experiments"]) == value["session"]["num_experiments"]


def test_the_schema_of_json_refuses_what_is_missing_or_unknown():
    session = sessions.night(3)
    value = log_json(session, session.experiments, sessions.NOW)
    validator = jsonschema.Draft202012Validator(schema("log"))
    assert validator.is_valid(value)
    trial = value["experiments"][0]["trials"][0]
    for part in (value["session"], value["summary"], value["experiments"][0], trial):
        for name in list(part):
            given = part.pop(name)
            assert not validator.is_valid(value), name
            if given is None or isinstance(given, str | int | float):
                part[name] = ["neither text nor a number"]
                assert not validator.is_valid(value), name
            part[name] = given
        part["unknown"] = 0
        assert not validator.is_valid(value)
        del part["unknown"]
    assert validator.is_valid(value)


def test_json_snapshot():
    session = sessions.night(3)
    value = log_json(session, session.experiments, sessions.NOW)
    check_snapshot("log_small.json", json.dumps(value, indent=1) + "\n")


def test_kept_rows_are_chronological_and_end_with_the_best():
    session = sessions.night()
    shown, total = select(session, Filter(num=0, only_kept=True))
    numbers = [e.number for e in shown]
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    assert numbers[-1] == session.best
    assert total == len(session.kept) + 1


@pytest.mark.parametrize(
    ("wanted", "check"),
    [
        (Filter(verdicts=("crash",)), lambda e: e.verdict == "crash"),
        (Filter(theme="ATTENTION"), lambda e: e.theme == "attention"),
        (Filter(since="#100", num=0), lambda e: e.number >= 100),
        (Filter(since="2h", num=0), lambda e: e.number > 100),
        (Filter(since=".5h", num=0), lambda e: e.number > 100),
        (Filter(since="999999999999d", num=0), lambda _: True),
        (Filter(since="2026-11-21T06:00:00Z", num=0), lambda e: e.judged_at >= "2026-11-21T06"),
    ],
)
def test_filters(wanted, check):
    shown, _ = select(sessions.night(), wanted, sessions.NOW)
    assert shown
    assert all(check(e) for e in shown)


@pytest.mark.parametrize("sort", ["score", "delta", "p_real", "memory", "speed", "took", "cost"])
def test_sorting_puts_missing_last(sort):
    from autoresearch.ui.pages.rows import SORTS

    for name in (sort, "-" + sort):
        shown, _ = select(sessions.night(), Filter(num=0, sort=name))
        values = [SORTS[sort](e) for e in shown]
        known = [v for v in values if v is not None]
        assert values[: len(known)] == sorted(known, reverse=name.startswith("-"))


@pytest.mark.parametrize(
    ("wanted", "word"),
    [
        (Filter(sort="colour"), "colour"),
        (Filter(since="yesterdayish"), "yesterdayish"),
        *((Filter(since=s), s) for s in ("0h", "-1h", "nanh", "infd", "1e9h", "²", "9" * 5000)),
        (Filter(verdicts=("maybe",)), "maybe"),
    ],
)
def test_a_wrong_filter_is_named(wanted, word):
    with pytest.raises(UsageError, match=word) as caught:
        select(sessions.night(), wanted)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("running", "RUNNING"),
        ("paused", "PAUSED"),
        ("finished", "FINISHED"),
        ("interrupted", "STOPPED"),
        ("dead", "DIED"),
        ("new", "NEW"),
    ],
)
def test_the_first_line_says_whether_it_is_alive(state, word):
    session = replace(sessions.running(), state=state)
    assert word in screen(session).split("\n")[0]


def test_numbers_of_different_setups_are_never_subtracted():
    session = sessions.night(20)
    other = replace(sessions.SETUP, gpu="another")
    moved = tuple(
        replace(e, setup=other.key, trials=tuple(replace(t, setup=other.key) for t in e.trials))
        if e.number == session.best
        else e
        for e in session.experiments
    )
    session = replace(
        session,
        experiments=moved,
        setup=other,
        confirmations=(),
        setups={sessions.SETUP.key: sessions.SETUP, other.key: other},
    )
    summary = summarize(session, sessions.NOW)
    assert summary.delta is None
    assert "NOT COMPARABLE: " in screen(session)
    assert any("setups" in mark for mark in summary.marks)


def test_an_undone_keep_says_so_and_does_not_count():
    session = sessions.night()
    kept = session.kept[-1]
    changed = tuple(
        replace(e, reverted_by="f" * 40) if e.number == kept.number else e
        for e in session.experiments
    )
    session = replace(session, experiments=changed)
    assert verdict_text(session.experiment(kept.number)) == "keep, undone"
    assert summarize(session).num_reverted == 1
    assert kept.number not in {s.experiment.number for s in summarize(session).steps}


def test_an_unsafe_session_says_so():
    text = screen(replace(sessions.night(), is_unsafe=True, is_validation_visible=True))
    assert "without a sandbox" in text
    assert "validation visible" in text


def test_log_imports_nothing_heavy():
    import subprocess
    import sys

    code = (
        "import sys, autoresearch.commands.log, autoresearch.ui.pages.log, autoresearch.ui.pages.as_json,"
        " autoresearch.ui.live.displays, autoresearch.ui.live.rows, autoresearch.commands.show,"
        " autoresearch.commands.diff, autoresearch.ui.pages.show, autoresearch.commands.report\n"
        "heavy = {'torch', 'litellm', 'pyarrow', 'tiktoken', 'matplotlib', 'jinja2', 'numpy', 'git'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_running_session_says_what_it_does():
    status = {
        "at": "2026-11-21T07:01:50Z", "tag": "nov21", "type": "progress", "number": 20,
        "phase": "train", "seconds": 182.0, "budget_seconds": 300.0, "memory_mb": 44_000.0,
    }  # fmt: skip
    lines = log.render(sessions.running(), width=100, now=sessions.NOW, status=status)
    first = lines[0].plain
    assert "RUNNING experiment 20, train 3m12s of 5m00s" in first
    rows = {line.plain.split()[0]: line.plain for line in lines if line.plain.startswith(" ")}
    assert "running" in rows["20"]
    assert "proposed" in rows["19"]
    value = log_json(sessions.running(), (), sessions.NOW, status)
    jsonschema.validate(value, schema("log"))
    assert value["summary"]["doing"]["seconds"] == 192.0


def test_nothing_runs_in_a_session_that_stopped():
    session = replace(sessions.running(), state="dead")
    assert "running" not in screen(session).split("\n", 1)[1]


def test_watching_uses_the_other_screen_and_ends_with_the_session(monkeypatch):
    import io
    from types import SimpleNamespace

    from autoresearch.commands import log as command
    from autoresearch.ui.console import OutputMode, make_console

    file = io.StringIO()
    mode = OutputMode(kind="tty")
    mode.__dict__["out"] = make_console(file, width=80, is_terminal=True)
    new = replace(sessions.running(), state="new", experiments=())
    found = iter([new, sessions.running(), sessions.running(), sessions.night()])
    record = SimpleNamespace(
        session=lambda: next(found), presence=SimpleNamespace(status=lambda: None)
    )
    monkeypatch.setattr(command, "WATCH_SECONDS", 0.0)
    command._watch(mode, record, Filter())
    watched, _, after = file.getvalue().partition("\x1b[?1049l")
    assert watched.startswith("\x1b[?1049h")
    assert watched.count("RUNNING") == 2
    assert watched.count("waiting for `autoresearch run`") == 1
    assert "FINISHED" in after


def test_a_pane_of_24_lines_shows_the_verdict_and_as_many_experiments_as_fit():
    session = replace(sessions.running(), alerts=(Alert("a", "t1"), Alert("b", "t2")))
    lines = [line.plain for line in log.render_watched(session, Filter(), width=80, height=24)]
    assert len(lines) == 24
    assert [line.split()[0] for line in lines[:4]] == [
        "autoresearch/nov21",
        "verdict",
        "val_bpb",
        "needs",
    ]
    assert lines[3].startswith("needs you 2: ")
    assert [int(line.split()[0]) for line in lines[6:]] == list(range(20, 2, -1))
    assert all(cell_len(line) <= 80 for line in lines)


def test_the_table_of_a_terminal_in_a_pipe():
    from autoresearch.commands import as_table

    piped = OutputMode(kind="plain")
    assert as_table(piped).is_tty
    assert as_table(OutputMode(kind="json")).is_json


def test_what_ran_at_another_pace_is_said_below_the_table():
    session = sessions.night(6)
    plain = screen(session, 100)
    first, *others = session.experiments
    mark = "others took +15% of the machine"
    odd = [
        replace(e, decision=replace(e.decision, mark=mark)) if e.decision and e.number == 2 else e
        for e in others
    ]
    shown = screen(replace(session, experiments=(first, *odd)), 100)
    assert "more or less of the machine" not in plain
    assert "#2 ran while others took more or less of the machine" in " ".join(shown.split())
