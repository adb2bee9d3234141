"""A run directory that is deleted or moved while its session runs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from stand_ins import FormulaExecutor

from autoresearch.cli import main
from autoresearch.errors import AutoresearchError
from autoresearch.machine.hardware import describe
from autoresearch.paths import RunDirectory
from autoresearch.rundir.control import Request, request
from autoresearch.rundir.storage import keep_weights
from autoresearch.session.build import Lab
from autoresearch.tasks.gpt import METRIC
from autoresearch.tasks.gpt.executor import GptExecutor
from autoresearch.trial.snapshot import Folder
from autoresearch.types import TrialSpec
from autoresearch.util.files import write_file


def delete(root: Path) -> None:
    shutil.rmtree(root)


def move(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))


def delete_git(root: Path) -> None:
    shutil.rmtree(root / ".git")


def everything(root: Path) -> set[Path]:
    return set(root.rglob("*")) if root.exists() else set()


@pytest.mark.parametrize("do", [delete, move, delete_git])
@pytest.mark.parametrize("number", [0, 1])
def test_a_folder_that_goes_ends_the_session_in_one_sentence(
    night,
    tmp_path: Path,
    do: Callable[[Path], None],
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "lab"
    root.mkdir()
    for path in list(tmp_path.iterdir()):
        if path != root:
            path.rename(root / path.name)
    left: set[Path] = set()

    def before(spec: TrialSpec) -> None:
        if spec.number == number and not left and (root / ".git").exists():
            do(root)
            left.update(everything(root))

    executor = FormulaExecutor()
    executor.before_trial = before
    executor.keep_caches = lambda *_: None  # type: ignore[attr-defined]
    monkeypatch.setattr(
        "autoresearch.session.build.assemble",
        lambda run_directory, loaded, **_: Lab(
            run_directory,
            loaded,
            SimpleNamespace(
                metric=METRIC,
                facts={"data": {}, "trivial_score": 2.0, "is_validation_visible": False},
            ),
            describe(),
            SimpleNamespace(name="stand-in"),
            night.setup,
            executor,
        ),
    )
    monkeypatch.chdir(root)
    assert main(["run", "--proposer", "search", "--experiments", "3"]) == 1
    told = capsys.readouterr().err
    assert "was moved or deleted" in " ".join(told.split())
    assert told.count("error: ") == 1
    assert "Traceback" not in told
    assert everything(root) <= left
    monkeypatch.chdir(tmp_path)
    if do is move:
        session = type(night)(tmp_path / "elsewhere").session
        assert [e.number for e in session.experiments] == list(range(number + 1))


def test_nothing_is_written_where_a_run_directory_was(tmp_path: Path) -> None:
    run_directory = RunDirectory(tmp_path / "lab")
    state, spec = run_directory.state, SimpleNamespace(label="t/1-0")
    executor = SimpleNamespace(_log_directory=state / "logs", _scratch=state / "trials")
    trained = SimpleNamespace(output=SimpleNamespace(text="x"), weights=b"x")
    GptExecutor._write_log(executor, spec, trained)
    GptExecutor._save_weights(executor, spec, trained)
    for write in (
        lambda: write_file(state / "logs" / "a", b""),
        lambda: request(run_directory, Request.STOP),
        lambda: keep_weights(run_directory, "t", 1, tmp_path / "w"),
        lambda: Folder(state / "trials", "t", {}),
    ):
        with pytest.raises(AutoresearchError):
            write()
    assert not run_directory.root.exists()
    run_directory.root.mkdir()
    write_file(state / "logs" / "a", b"")
    assert (state / "logs" / "a").exists()
