import io
import json
import threading
from dataclasses import asdict, replace

import jsonschema
import pytest
import sessions

from autoresearch.events import (
    Abandoned,
    Alerted,
    Confirmed,
    Event,
    Phase,
    Progress,
    Proposed,
    Reverted,
    SessionEnded,
    SessionStarted,
    Spent,
    TrialJudged,
    VerdictGiven,
)
from autoresearch.record.fold import Fold
from autoresearch.tasks.gpt import METRIC
from autoresearch.types import Alert, CurvePoint, Usage
from autoresearch.ui.console import OutputMode, make_console
from autoresearch.ui.live.displays import JsonDisplay, PlainDisplay, QuietDisplay, make_display
from autoresearch.ui.live.rows import RowsDisplay, event_line, live_rows
from autoresearch.ui.live.state import LiveState
from autoresearch.ui.pages.as_json import schema
from autoresearch.ui.screen import Rows

AT = "2026-11-21T01:02:03Z"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def events(description="RoPE base 200000 -> 400000"):
    yield SessionStarted(
        metric=METRIC,
        at=AT,
        tag="nov21",
        tip=sessions.sha(8),
        setup=asdict(sessions.SETUP),
        seed=0,
        proposer="llm",
        model="openai/gpt-5.2",
        sandbox="bubblewrap",
        limits={"seconds": 28_800.0, "experiments": 0, "max_cost_usd": 10.0},
    )
    yield Phase(name="propose", detail="openai/gpt-5.2 is writing")
    yield Proposed(
        at=AT,
        number=19,
        commit=sessions.sha(19),
        parent="",
        identity="",
        proposer="llm",
        description=description,
        lines_added=3,
        lines_removed=1,
        usage=Usage(cost_usd=0.08),
    )
    yield Phase(name="trial", detail=description, number=19)
    yield Progress(number=19, label="19-0", phase="startup", seconds=4, budget_seconds=240)
    for i in range(1, 11):
        yield Progress(
            number=19,
            label="19-0",
            phase="train",
            seconds=30.0 * i,
            budget_seconds=300.0,
            num_tokens=i * 49_000_000,
            num_steps=95 * i,
            tokens_per_second=1_660_000.0,
            memory_mb=44_000.0,
            point=CurvePoint(30.0 * i, 0, 8.0 - 0.4 * i),
        )
    yield Progress(number=19, label="19-0", phase="claim", seconds=2, budget_seconds=300)
    yield TrialJudged(
        at=AT,
        number=19,
        index=0,
        setup="",
        started_at=AT,
        result={
            "outcome": "ok",
            "seed": 19,
            "split": "validation",
            "score": 0.994,
            "total_seconds": 341.0,
            "peak_memory_mb": 44_000.0,
            "num_tokens": 498_000_000,
        },
    )
    yield Phase(name="decide", number=19)
    yield VerdictGiven(
        at=AT,
        number=19,
        verdict="keep",
        reason="gain",
        decision={"action": "keep", "reason": "gain", "delta": -0.0006, "p_real": 0.97},
    )
    yield Proposed(
        at=AT, number=20, commit=sessions.sha(20), parent="", identity="", proposer="llm",
        description="depth 8 -> 9",
    )  # fmt: skip
    yield Abandoned(at=AT, number=20, reason="rebase_conflict")
    yield Spent(at=AT, usage=Usage(cost_usd=0.01), reason="rate limit")
    yield Alerted(at=AT, text="out of memory 3 times", command="autoresearch log --verdict crash")
    yield Reverted(at=AT, numbers=[19], commit=sessions.sha(1))
    yield Confirmed(at=AT, confirmation=asdict(sessions.verified(18).confirmations[0]))
    yield SessionEnded(at=AT, reason="hours", wall_seconds=28_800.0)


class Told:
    """Tells displays events as a record does: what is stored can be read before it is shown."""

    def __init__(self, *displays):
        self.displays = displays
        self.fold = Fold("nov21")
        for display in displays:
            display.start(self.fold.session)

    def __call__(self, event):
        if isinstance(event, Event):
            self.fold.apply(f"{self.fold.num_events:040x}", json.dumps(event.to_json()))
        for display in self.displays:
            display.handle(event)


def test_plain_lines_have_time_first_and_pairs_after(capsys):
    clock = Clock()
    display = PlainDisplay(OutputMode(), clock)
    tell = Told(display)
    for event in events():
        clock.now += 20
        tell(event)
    display.stop(sessions.night(18))
    out, err = capsys.readouterr()
    lines = out.rstrip("\n").split("\n")
    assert all(line[4] == "-" and line[10] == "T" and " event=" in line for line in lines)
    verdict = next(line for line in lines if "event=verdict" in line)
    assert verdict == (
        f"{AT} event=verdict experiment=19 verdict=keep reason=gain score=0.994000"
        ' delta=-0.000600 p_real=0.970 took=5m41s change="RoPE base 200000 -> 400000"'
    )
    # Ten progress events over 200 seconds: the first of the phase, then one a minute.
    assert sum("event=progress" in line for line in lines) == 4
    assert err.startswith("autoresearch/nov21   FINISHED")


@pytest.mark.parametrize("text", sessions.HOSTILE)
def test_plain_keeps_one_line_an_event_whatever_a_model_writes(text, capsys):
    tell = Told(PlainDisplay(OutputMode()))
    for event in events(text):
        tell(event)
    out, _ = capsys.readouterr()
    assert "\x1b" not in out
    assert all(line.startswith("20") for line in out.rstrip("\n").split("\n"))


def test_json_lines_follow_the_schema(capsys):
    display = JsonDisplay()
    session = sessions.night(18)
    display.start(lambda: session)
    for event in events(sessions.HOSTILE[1]):
        display.handle(event)
    display.stop(session)
    out, err = capsys.readouterr()
    assert err == ""
    assert out.isascii()
    values = [json.loads(line) for line in out.rstrip("\n").split("\n")]
    validator = jsonschema.Draft202012Validator(schema("events"))
    for value in values:
        validator.validate(value)
    types = [value["type"] for value in values]
    assert types[0] == "session_started"
    assert types[-2:] == ["session_ended", "summary"]
    assert types.count("progress") == 3


def test_json_survives_a_loss_that_is_not_finite(capsys):
    JsonDisplay().handle(
        Progress(
            number=1,
            label="1-0",
            phase="train",
            seconds=1,
            budget_seconds=2,
            point=CurvePoint(1.0, 0, float("nan"), {"lr": float("inf")}),
        )
    )
    value = json.loads(capsys.readouterr().out)
    assert value["loss"] is None
    assert value["values"] == {"lr": None}


def test_quiet_says_only_the_end_and_alerts(capsys):
    display = QuietDisplay(OutputMode(kind="quiet"))
    display.start(sessions.empty)
    for event in events():
        display.handle(event)
    display.stop(sessions.night(18))
    out, err = capsys.readouterr()
    assert out == "nov21 finished tried 18 keep 3 best 0.994607 -0.33%\n"
    assert err == "warning: out of memory 3 times\n"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def rows_display(width=100, clock=None):
    file = Terminal()
    console = make_console(file, width=width, is_terminal=True)
    mode = OutputMode(kind="tty", is_live=True, is_utf8=True)
    mode.__dict__["err"] = console
    return RowsDisplay(mode, clock=clock or Clock()), file


def test_rows_keep_their_number_and_fit_whatever_happens():
    for width in (40, 60, 80, 100, 160):
        display, _ = rows_display(width)
        clock = Clock()
        heights = set()
        for text in ("short", *sessions.HOSTILE):
            tell = Told(display)
            for event in events(text):
                tell(event)
                rows = live_rows(display._state, width=width, utf8=True, clock=clock())
                heights.add(len(rows))
                assert all("\n" not in row.plain and "\x1b" not in row.plain for row in rows)
        assert heights == {6}


def test_finished_experiments_scroll_above_the_rows(capsys):
    display, file = rows_display()
    tell = Told(display)
    titles = set()
    for event in events("[red]idea[/red] \x1b[2J"):
        tell(event)
        titles.add(display.title())
    display.stop(sessions.night(18))
    assert titles >= {"nov21", "#19 nov21", "#19 50% nov21", "#19 100% nov21"}
    text = file.getvalue()
    assert "  19  keep            0.994000  -0.000600  0.97   5m41s  [red]idea[/red]\n" in text
    assert text.count("   #  verdict         val_bpb     vs best     P    took  change\n") == 1
    assert "\x1b[2J" not in text
    assert text.endswith("\x1b[1A\x1b[2K\x1b[23;0t")
    assert text.startswith("\x1b[22;0t")
    assert "\x1b]0;nov21\x07" in text
    assert "\x1b[0J" not in text  # from the top of the screen tmux would keep every frame
    assert "\x1b[?25l" not in text  # a killed process would leave the terminal without a cursor
    assert "FINISHED" in capsys.readouterr().out


def test_the_plan_scrolls_and_a_request_replaces_the_row_about_ctrl_c():
    state = LiveState(sessions.night(18, state="running"))
    plan = Phase(name="plan", detail="at most 4 experiments in 20m00s")
    assert event_line(plan, state, 100).plain == "plan: at most 4 experiments in 20m00s"
    for detail, row in (
        ("", "Ctrl-C stops; the next"),
        ("pausing", "pausing"),
        ("", "Ctrl-C stops; the"),
    ):
        state.handle(Phase(name="request", detail=detail))
        rows = live_rows(state, width=100, utf8=True, clock=0.0)
        assert rows[-1].plain.strip().startswith(row)
        assert event_line(Phase(name="request", detail=detail), state, 100) is None
    assert state.phase is None


def test_the_row_of_the_night_counts_what_this_run_did():
    session = replace(
        sessions.night(18, state="running"), limits={"experiments": 4, "first_number": 19}
    )
    night = live_rows(LiveState(session), width=100, utf8=True, clock=0.0)[4].plain
    assert "0 of 4 done" in night
    assert "discard" not in night


def test_a_proposer_that_cannot_be_had_is_not_shown_as_thinking():
    session = sessions.night(18, state="running")
    state = LiveState(replace(session, experiments=session.experiments[:-1]), lambda: 0.0)
    state.handle(Phase(name="propose"))
    text = lambda: "\n".join(r.plain for r in live_rows(state, width=100, utf8=True, clock=7.0))  # noqa: E731
    assert "the proposer is thinking 7.0s" in text()
    for is_over, word in ((False, "waits to ask `a/b` again"), (True, "the proposer is thinking")):
        alert = Alert("`a/b` fails", AT, about="`a/b`", is_over=is_over)
        state.session = replace(state.session, alerts=(*state.session.alerts, alert))
        assert f"{word} 7.0s" in text()


def test_erasing_counts_the_lines_a_narrowed_terminal_wrapped():
    from rich.text import Text

    file = Terminal()
    console = make_console(file, width=100, is_terminal=True)
    rows = Rows(console, lambda _width: [Text("x" * 90), Text("y" * 10)])
    rows.start(refresh=True)
    console.width = 40
    file.truncate(0)
    rows.refresh()
    rows.refresh()
    # Two rows, of which the first was wrapped into three lines; then two rows again.
    assert file.getvalue().count("\x1b[1A\x1b[2K") == 3 + 1
    rows.stop()


def test_telling_while_the_rows_are_redrawn_never_blocks():
    display, _ = rows_display()
    display.start(lambda: sessions.night(18, state="running"))

    def redraw():
        for _ in range(100):
            display._rows.refresh()

    def tell():
        for event in [e for _ in range(10) for e in events()]:
            display.handle(event)

    threads = [threading.Thread(target=call, daemon=True) for call in (redraw, tell)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    display.stop(None)


def test_displays_may_be_told_from_many_threads(capsys):
    display = PlainDisplay(OutputMode())
    display.start(sessions.empty)

    def tell(number):
        for _ in range(50):
            display.handle(Alerted(at=AT, text=f"from {number} " + "x" * 200))

    threads = [threading.Thread(target=tell, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = capsys.readouterr().out.rstrip("\n").split("\n")
    assert len(lines) == 200
    assert all(line.startswith(AT) for line in lines)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (OutputMode(kind="json"), JsonDisplay),
        (OutputMode(kind="quiet"), QuietDisplay),
        (OutputMode(kind="plain", is_live=True), PlainDisplay),
        (OutputMode(kind="tty", is_live=False), PlainDisplay),
    ],
)
def test_the_mode_chooses_the_display(mode, kind):
    assert isinstance(make_display(mode), kind)


def test_a_single_trial_leaves_stdout_alone(capsys):
    display = make_display(OutputMode(), is_single=True)
    display.start(None)
    display.handle(Progress(number=0, label="try", phase="train", seconds=1, budget_seconds=2))
    display.stop(None)
    out, err = capsys.readouterr()
    assert out == ""
    assert "event=progress" in err


def test_a_single_trial_is_named_by_its_phase():
    display, _ = rows_display()
    display._state.handle(Phase(name="trial", detail="working tree"))
    display._state.handle(
        Progress(number=0, label="try", phase="train", seconds=1, budget_seconds=2)
    )
    rows = live_rows(display._state, width=80, utf8=True, clock=1000.0, is_single=True)
    assert "working tree" in rows[1].plain
    assert "baseline" not in rows[1].plain
    assert len(rows) == 4
