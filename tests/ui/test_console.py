import io
import json
import sys

import pytest

from autoresearch.errors import PrerequisiteError
from autoresearch.ui.console import OutputMode, make_console, print_error


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def derive(env=(), out=None, err=None, **flags):
    return OutputMode.derive(
        environ={"TERM": "xterm-256color", **dict(env)},
        stdout=out or Terminal(),
        stderr=err or Terminal(),
        **flags,
    )


def test_a_terminal_is_live_and_coloured():
    mode = derive()
    assert (mode.kind, mode.is_live, mode.has_color) == ("tty", True, True)


def test_a_pipe_is_plain():
    mode = derive(out=io.StringIO())
    assert (mode.kind, mode.has_color, mode.has_error_color) == ("plain", False, True)


def test_json_and_quiet_win_over_the_terminal():
    assert derive(is_json=True).kind == "json"
    assert not derive(is_json=True).has_color
    assert derive(is_quiet=True).kind == "quiet"
    assert not derive(is_quiet=True).is_live


@pytest.mark.parametrize(
    ("env", "color", "expected"),
    [
        ({"NO_COLOR": "1"}, "auto", False),
        ({"NO_COLOR": ""}, "auto", True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, "auto", False),
        ({"NO_COLOR": "1"}, "always", True),
        ({}, "never", False),
        ({"TERM": "dumb"}, "auto", False),
    ],
)
def test_precedence_of_colour(env, color, expected):
    assert derive(env, color=color).has_color is expected


def test_force_color_colours_a_pipe_but_does_not_make_it_live():
    mode = derive({"FORCE_COLOR": "1"}, out=io.StringIO(), err=io.StringIO())
    assert mode.has_color
    assert mode.kind == "plain"
    assert not mode.is_live


@pytest.mark.parametrize(
    ("env", "flags"),
    [({"TERM": "dumb"}, {}), ({"AUTORESEARCH_NO_PROGRESS": "1"}, {}), ({}, {"progress": False})],
)
def test_what_switches_redrawing_off(env, flags):
    assert not derive(env, **flags).is_live


def test_a_console_prints_markup_as_it_is():
    file = io.StringIO()
    console = make_console(file, color=True)
    console.print("[red]list[int][/red] :smile: 12", soft_wrap=True)
    assert file.getvalue() == "[red]list[int][/red] :smile: 12\n"


def test_an_error_has_its_hint_after_an_empty_line(capsys):
    error = PrerequisiteError("no prepared data", hint="run `autoresearch prepare`")
    print_error(OutputMode(), error)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: no prepared data\n\nhint: run `autoresearch prepare`\n"


def test_an_error_in_json_is_an_object_on_stdout(capsys):
    error = PrerequisiteError("no prepared data", hint="run `autoresearch prepare`")
    print_error(OutputMode(kind="json"), error)
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["error"] == {
        "kind": "data_missing",
        "message": "no prepared data",
        "hint": "run `autoresearch prepare`",
        "exit_code": 3,
    }


def test_talk_goes_to_stderr_and_quiet_silences_it(capsys):
    OutputMode().say("hello")
    OutputMode(kind="quiet").say("nobody hears")
    OutputMode(kind="quiet").warn("heard")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "hello\nwarning: heard\n"


def test_consoles_follow_a_redirected_stream(monkeypatch):
    mode = OutputMode()
    mode.say("before")
    other = io.StringIO()
    monkeypatch.setattr(sys, "stderr", other)
    mode.say("after")
    assert other.getvalue() == "after\n"
