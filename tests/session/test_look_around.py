"""What would disturb a night is said before it, or waited out."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoresearch.events import Phase
from autoresearch.machine.hardware import GpuProcess
from autoresearch.paths import RunDirectory
from autoresearch.rundir import control
from autoresearch.session import run
from autoresearch.session.context import Limits
from autoresearch.session.proposals import without_home

OTHER = GpuProcess(4711, "python", 9000.0)


class Alerts:
    """Takes alerts as a record does."""

    def __init__(self, root: Path = Path("nowhere")) -> None:
        self.told: list[tuple[str, str]] = []
        self.run_directory = RunDirectory(root)

    def alert(self, text: str, command: str = "", about: str = "") -> None:
        """Note it; its end can be seen."""
        assert about
        self.told.append((text, command))


def look(
    monkeypatch: pytest.MonkeyPatch, answers: list[list[GpuProcess]], *, is_waiting: bool
) -> tuple[list[tuple[str, str]], list[Any]]:
    left = iter(answers)
    monkeypatch.setattr("autoresearch.machine.hardware.gpu_processes", lambda: next(left))
    monkeypatch.setattr(control, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(run, "is_on_battery", lambda: False)
    record: Any = Alerts()
    shown: list[Any] = []
    options = run.RunOptions(Limits(), is_waiting_for_gpu=is_waiting)
    run._look_around(record, options, shown.append, threading.Event())
    assert list(left) == [], "it looked as often as it should"
    return record.told, shown


def test_a_gpu_in_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told, shown = look(monkeypatch, [[OTHER]], is_waiting=False)
    assert told == [("other processes use the GPU: python (4711)", "autoresearch run --wait-gpu")]
    assert shown == []


def test_a_gpu_in_use_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told, shown = look(monkeypatch, [[OTHER], [OTHER], []], is_waiting=True)
    assert told == []
    assert shown == [Phase(name="wait", detail="for the GPU")]


def test_who_waits_for_a_gpu_hears_a_stop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("autoresearch.machine.hardware.gpu_processes", lambda: [OTHER])
    monkeypatch.setattr(control, "LOOK_SECONDS", 0.0)
    record: Any = Alerts(tmp_path)
    stop = threading.Event()
    options = run.RunOptions(Limits(), is_waiting_for_gpu=True)
    control.request(record.run_directory, control.Request.STOP)
    run._look_around(record, options, print, stop)
    assert stop.is_set()


def test_a_battery_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoresearch.machine.hardware.gpu_processes", list)
    import psutil

    for is_plugged, expected in ((False, 1), (None, 0), (True, 0)):
        sensor = SimpleNamespace(power_plugged=is_plugged)
        monkeypatch.setattr(psutil, "sensors_battery", lambda s=sensor: s, raising=False)
        record: Any = Alerts()
        run._look_around(record, run.RunOptions(Limits()), print, threading.Event())
        assert len(record.told) == expected


def test_a_prompt_does_not_name_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    said = 'File "/home/ada/lab/.autoresearch/trials/1-0/snapshot/train.py", line 3'
    monkeypatch.setenv("HOME", "/home/ada")
    assert without_home(said) == said.replace("/home/ada", "~")
    monkeypatch.setenv("HOME", "/")
    assert without_home(said) == said
