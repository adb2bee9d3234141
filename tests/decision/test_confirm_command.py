"""`autoresearch confirm`: what is refused before anything runs, and what is printed."""

import json

import pytest

from autoresearch.commands.confirm import confirm
from autoresearch.errors import UsageError
from autoresearch.tasks.gpt import METRIC
from autoresearch.types import Confirmation
from autoresearch.ui.console import OutputMode
from autoresearch.ui.pages.confirmation import confirmation_lines, print_confirmations, screen_lines

FOUND = Confirmation(
    reference=0, candidate=7, split="test", delta=-0.0123, low=-0.015, high=-0.0096, p_real=0.999,
    num_trials=4, reference_score=1.0, candidate_score=0.9877, budget_seconds=300.0, setup="s",
    at="2026-01-01T00:00:00Z",
)  # fmt: skip


def test_each_takes_nothing_else():
    with pytest.raises(UsageError, match="--each"):
        confirm(None, is_each=True, minutes=3.0)  # type: ignore[arg-type]


def test_lines_say_what_it_means():
    text = "\n".join(line.plain for line in confirmation_lines(FOUND, METRIC))
    assert text.startswith("confirmed ")
    assert "gap" not in text
    assert "-0.012300, 95% [-0.015000, -0.009600]" in text
    assert "test_bpb 1.000000 -> 0.987700" in text


@pytest.mark.parametrize(
    ("low", "high", "word"), [(-0.02, 0.01, "not confirmed"), (0.001, 0.02, "worse")]
)
def test_other_words(low, high, word):
    from dataclasses import replace

    found = replace(FOUND, low=low, high=high)
    assert confirmation_lines(found, METRIC)[0].plain.startswith(word)


def test_the_gap_stands_beside_the_difference():
    from dataclasses import replace

    seen = replace(FOUND, validation_delta=-0.0143)
    assert confirmation_lines(seen, METRIC)[-1].plain.strip() == (
        "validation promised -0.0143; on unseen data it is 0.0020 worse"
    )
    alarm = replace(seen, is_alarm=True)
    assert confirmation_lines(alarm, METRIC)[-1].plain.endswith(": the gain does not carry over")


def test_left_out_change_is_worth_a_revert(lab):
    from dataclasses import replace

    found = replace(
        FOUND,
        kind="each",
        reference=3,
        delta=0.001,
        low=-0.002,
        high=0.004,
        p_real=0.2,
        p_carries=0.1,
    )
    session = lab.session(lab.experiment(0, [1.0]))
    lines = [line.plain for line in screen_lines(session, [found], 80)]
    assert lines[0].startswith("#7 with and without each change")
    assert lines[2].split()[:3] == ["3", "does", "not"]
    assert lines[-1].endswith("`autoresearch revert 3`")


def test_json_holds_every_number(lab, capsys):
    session = lab.session(lab.experiment(0, [1.0, 1.001]))
    print_confirmations(OutputMode(kind="json"), session, [FOUND])
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["delta"] == -0.0123
    assert rows[0]["validation_delta"] is None


def test_pipe_gets_names_and_values(lab, capsys):
    session = lab.session(lab.experiment(0, [1.0, 1.001]))
    print_confirmations(OutputMode(kind="plain"), session, [FOUND])
    out, err = capsys.readouterr()
    assert "delta: -0.012300\n" in out
    assert err == ""
