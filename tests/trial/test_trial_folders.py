"""The private folder of a process: short names for its temporary files, and nothing left of it, not even by a kill."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from trial_files import COUNTS, variant

from autoresearch.sandbox import NoSandbox
from autoresearch.sandbox.select import BACKENDS, probe
from autoresearch.tasks.gpt.executor import GptExecutor
from autoresearch.trial.snapshot import Folder
from autoresearch.types import Outcome

WORKERS = variant(
    (
        "    trial.start()\n",
        """    rows = torch.arange(32).reshape(8, 4)
    loader = torch.utils.data.DataLoader(rows, batch_size=2, num_workers=1)
    print("sum", sum(int(x.sum()) for x in loader), flush=True)
    print("temporary", tempfile.mkdtemp(), flush=True)
    trial.start()
""",
    ),
    prologue="import tempfile\nimport torch.utils.data\n",
    base=COUNTS,
)


def short_names() -> set[Path]:
    return {path for place in ("/tmp", "/var/tmp") for path in Path(place).glob("ar-*")}


def links_into(folder: Path) -> list[Path]:
    return [p for p in short_names() if p.is_symlink() and p.readlink().is_relative_to(folder)]


@pytest.mark.parametrize("backend", [*BACKENDS, "none"])
def test_worker_processes_in_a_run_directory_with_a_long_path(
    run, configure, dataset, tmp_path, unjudged, backend
) -> None:
    sandbox = NoSandbox() if backend == "none" else probe(backend).sandbox
    if sandbox is None:
        pytest.skip(f"{backend} does not work here")
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name-of-forty-letters"] * 6)
    deep.mkdir(parents=True)
    for folder in (deep, *deep.parents):
        if folder.is_relative_to(tmp_path):
            folder.chmod(0o755)
    executor = GptExecutor(configure(), dataset, sandbox, scratch=deep)
    result = run(WORKERS, executor=executor)
    assert result.outcome is Outcome.OK, result.log_tail
    assert "sum 496" in result.log_tail
    name = result.log_tail.split("temporary ")[1].split()[0]
    assert len(name) < 40
    assert not Path(name).exists()
    assert not list(deep.iterdir())
    assert not links_into(deep)


def test_a_short_name_goes_with_its_folder(tmp_path) -> None:
    with Folder(tmp_path / "scratch", "1-1", {}) as folder:
        (folder.temporary / "x").write_text("x")
        assert (folder.home / "tmp" / "x").read_text() == "x"
        assert len(str(folder.temporary)) < 24
    assert not folder.temporary.exists()
    assert not folder.temporary.is_symlink()
    assert not links_into(tmp_path)


def test_a_name_that_is_taken_is_left_alone(tmp_path, monkeypatch) -> None:
    taken = tmp_path / "taken"
    taken.write_text("of somebody else")
    monkeypatch.setattr("autoresearch.trial.snapshot._short_names", lambda _: [taken])
    with Folder(tmp_path / "scratch", "1-1", {}) as folder:
        assert folder.temporary == folder.home / "tmp"
    assert taken.read_text() == "of somebody else"


def test_what_a_killed_lab_left_is_cleared_by_the_next(tmp_path) -> None:
    scratch = tmp_path / "scratch"
    code = """
import sys, time
from pathlib import Path
from autoresearch.trial.snapshot import Folder
folder = Folder(Path(sys.argv[1]), "dead", {"train.py": b"x"})
(folder.temporary / "note").write_text("x")
(folder.home / "locked").mkdir(mode=0)
print(folder.temporary, flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(scratch)], stdout=subprocess.PIPE, text=True
    ) as lab:
        short = Path(lab.stdout.readline().strip())
        with Folder(scratch, "beside", {}) as beside:
            assert beside.home.is_dir()
            assert (short / "note").exists(), "a lab that lives keeps its folders"
        lab.send_signal(signal.SIGKILL)
        lab.wait()
    assert (short / "note").exists()
    (scratch / "1-1.safetensors").write_text("weights that somebody will put away")
    with Folder(scratch, "next", {}):
        assert not short.is_symlink()
        assert len([p for p in scratch.iterdir() if p.is_dir()]) == 1
    assert [p.name for p in scratch.iterdir()] == ["1-1.safetensors"]


def test_folders_of_others_are_left_where_scratch_leads_to_them(tmp_path) -> None:
    mine = {"documents", "my-projects", "lab-abcdefgh", "snapshot"}
    for name in mine:
        (tmp_path / "me" / name / "home").mkdir(parents=True)
        (tmp_path / "me" / name / "file").write_text("x")
    (tmp_path / "trials").symlink_to("me")
    for _ in range(2):
        with Folder(tmp_path / "trials", "x", {}):
            pass
    assert {path.name for path in (tmp_path / "me").iterdir()} == mine
    assert len(list((tmp_path / "me").glob("*/file"))) == len(mine)


def test_a_short_name_is_cleared_when_its_run_directory_was_deleted(tmp_path) -> None:
    dead = Path("/tmp") / f"ar-{tmp_path.name[-40:]}"
    other = Path("/tmp") / f"ar-other-{tmp_path.name[-40:]}"
    dead.symlink_to(tmp_path / "gone" / "home" / "tmp")
    other.symlink_to(tmp_path / "somebody-elses")
    try:
        with Folder(tmp_path / "scratch", "1-1", {}):
            assert not dead.is_symlink()
            assert other.is_symlink()
    finally:
        other.unlink()
        dead.unlink(missing_ok=True)
