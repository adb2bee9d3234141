"""What is due beside the experiments never stops a night."""

from pathlib import Path
from typing import Any

import pytest
from record_support import SETUP, Night, git

from autoresearch.config import Config, load_config
from autoresearch.paths import weights_file
from autoresearch.record.record import Record
from autoresearch.report.export import export
from autoresearch.rundir.storage import weights_path
from autoresearch.session.housekeeping import Upkeep
from autoresearch.types import WEIGHTS_LOST, Outcome, TrialResult, Verdict


def _config(**overrides: Any) -> Config:
    return load_config(None, {k.replace("__", "."): v for k, v in overrides.items()}).config


def _handed_in(night: Night, knob: int) -> Path:
    return weights_file(night.record.run_directory.trials, f"nov21/{knob}-0")


def _judge(night: Night, knob: int, verdict: Verdict, **extra: str) -> None:
    experiment = night.propose(night.knob(knob, 100 + knob), "x")
    weights = _handed_in(night, knob)
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(b"w%d" % knob)
    result = TrialResult(seed=0, outcome=Outcome.OK, score=1.0, extra=extra)
    night.record.record_trial(experiment.number, result, setup=SETUP.key, started_at="")
    night.record.judge(experiment.number, verdict, "gain", setup=SETUP.key)


@pytest.mark.parametrize(("policy", "left"), [("none", []), ("best", [3]), ("kept", [1, 3])])
def test_weights_are_put_away(night: Night, policy: str, left: list[int]) -> None:
    upkeep = Upkeep(night.record, _config(trial__save_weights=policy))
    for knob, verdict in ((1, Verdict.KEEP), (2, Verdict.DISCARD), (3, Verdict.KEEP)):
        _judge(night, knob, verdict)
        upkeep.after_verdict(knob)
        assert not _handed_in(night, knob).exists()
    where = night.record.run_directory
    assert [n for n in range(4) if weights_path(where, "nov21", n).exists()] == left


def test_no_weights_are_left_of_an_incumbent_run_again_or_of_a_killed_lab(night: Night) -> None:
    left = _handed_in(night, 0).with_name("0000-002.safetensors")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"w")
    _judge(night, 1, Verdict.DISCARD)
    Upkeep(night.record, _config(trial__save_weights="kept")).after_verdict(1)
    assert not left.exists()


def test_weights_that_could_not_be_saved_are_an_alert_and_export_says_so(night: Night) -> None:
    _judge(night, 1, Verdict.KEEP, **{WEIGHTS_LOST: "No space left on device"})
    _handed_in(night, 1).unlink()
    Upkeep(night.record, _config()).after_verdict(1)
    told = [alert.text for alert in night.record.session().alerts]
    assert "the weights of experiment 1 are lost: No space left on device" in told
    missing = " ".join(export(night.record, "1").missing)
    assert "the weights: they could not be saved: No space left on device" in missing


def test_a_killed_run_is_made_up_for(night: Night) -> None:
    experiment = night.propose(night.knob(3, 33), "x")
    night.trial(1, 1.4)
    night.record.judge(experiment.number, Verdict.KEEP, "baseline")
    Upkeep(night.record, _config()).begin()
    assert git(night.root, "status", "--porcelain") == ""
    assert "KNOB_03 = 33" in (night.root / "train.py").read_text()
    assert (night.root / "results.tsv").read_text().count("\n") == 3


def test_keeps_are_sent_away(night: Night, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "r.git")
    git(night.root, "remote", "add", "backup", str(tmp_path / "r.git"))
    upkeep = Upkeep(night.record, _config(session__push_after_keep="backup"))
    night.try_out(night.knob(3, 33))
    upkeep.after_verdict(1)
    night.try_out(night.knob(4, 44))
    upkeep.after_verdict(2)
    upkeep.end()
    tip = git(tmp_path / "r.git", "rev-parse", "refs/heads/autoresearch/nov21")
    assert tip == night.record.tip()
    assert night.record.session().alerts == ()


def test_a_push_that_fails_is_told_once(night: Night) -> None:
    upkeep = Upkeep(night.record, _config(session__push_after_keep="nowhere"))
    for n in (1, 2):
        night.try_out(night.knob(n, 100 + n))
        upkeep.after_verdict(n)
        upkeep.end()
    alerts = night.record.session().alerts
    assert [a.text for a in alerts] == ["there is no remote `nowhere`"]
    assert "git remote add" in alerts[0].command


def test_a_push_that_works_again_needs_no_person(night: Night, tmp_path: Path) -> None:
    upkeep = Upkeep(night.record, _config(session__push_after_keep="backup"))
    for n in (1, 2, 3, 4):
        night.try_out(night.knob(n, 100 + n))
        if n == 2:
            git(tmp_path, "init", "-q", "--bare", "r.git")
            git(night.root, "remote", "add", "backup", str(tmp_path / "r.git"))
        if n == 4:
            git(night.root, "remote", "remove", "backup")
        upkeep.after_verdict(n)
        upkeep.end()
    told = night.record.session().alerts
    assert [(a.about, a.is_over) for a in told] == [
        ("the push", False),
        ("the push", True),
        ("the push", False),
    ]


def test_a_deleted_branch_is_told(record: Record) -> None:
    night = Night(record)
    night.start()
    git(night.root, "checkout", "-q", "--detach")
    git(night.root, "branch", "-qD", "autoresearch/nov21")
    Upkeep(record, _config()).begin()
    assert "is not here" in record.session().alerts[0].text
