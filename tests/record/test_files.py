"""Files of the user with the names the lab writes stay as they are; the lab's own are replaced."""

import importlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import loop_driver
import pytest
import typer
from record_support import Night
from typer.testing import CliRunner

import autoresearch.util.files
from autoresearch.cli import _MODULES, VERBS, main
from autoresearch.commands import as_verb
from autoresearch.config import load_config
from autoresearch.decision import pace
from autoresearch.errors import EXIT_CODES, AutoresearchError, ForeignFileError, UsageError
from autoresearch.record.record import Record
from autoresearch.session.housekeeping import Upkeep
from autoresearch.util.files import write_ours

WRITTEN = (
    "results.tsv", "report.html", "report.md", "progress.png", "progress.svg", "prepare.py", "kernels.py",
    "experiment.json", "model.safetensors", "tokenizer.tiktoken", "export-nov21-1/train.py",
)  # fmt: skip
SCAFFOLDED = ("train.py", "program.md", "autoresearch.toml", ".gitignore")
USERS = b"commit\tval_bpb\tmemory_gb\tstatus\tdescription\na1b2c3d\t0.9932\t44.2\tkeep\tmine\n"


def fill(root: Path, *names: str) -> dict[str, bytes]:
    """Write files of the user and return all there are."""
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b'mine = "' + name.encode() + b'"\n')
    return {name: (root / name).read_bytes() for name in names}


def call(verb: str, *args: str) -> Exception | None:
    """Run a verb in the current folder and return its error."""
    app = typer.Typer()
    app.callback()(lambda: None)
    module = importlib.import_module(f"autoresearch.commands.{_MODULES.get(verb, verb)}")
    app.command(verb)(as_verb(getattr(module, verb)))
    error = CliRunner().invoke(app, [verb, *args]).exception
    assert error is None or isinstance(error, AutoresearchError), error
    return error


def test_verbs_leave_what_they_did_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "lab"
    loop_driver.make(root).close()
    before = fill(root, *WRITTEN)
    monkeypatch.chdir(root)
    monkeypatch.setattr(pace, "PAUSES", (0.0, 0.0))
    loop_driver.run(root, 3)
    for args in (
        ["report"],
        *(["report", "-o", name] for name in WRITTEN[1:5]),
        ["report", "--from", "results-nov21.tsv"],
        ["export", "1"],
        ["export", "1", "-o", "."],
        ["demo", "."],
    ):
        error = call(*args)
        assert isinstance(error, UsageError), args
        assert "name" in (error.hint or ""), args
    for args in (["log"], ["show", "1"], ["diff", "0", "1"], ["note", "x"]):
        assert call(*args) is None, args
    assert call("init", ".", "--template", "compat", "--tag", "next") is None
    assert {name: (root / name).read_bytes() for name in before} == before
    assert not list(root.glob(".*.part")) + list(root.glob("**/.autoresearch-*"))


WALK = (
    ["demo", "."], ["init", "."], ["prepare", "--offline"], ["prepare", "--source", "README.md"],
    ["doctor", "--quick"], ["trust"], ["run", "--experiments", "1"], ["run", "--dry-run"], ["try"], ["note", "x"],
    ["stop"], ["pause"], ["resume"], ["confirm"], ["log"], ["log", "--from", "results.tsv"],
    ["log", "--tsv"], ["show", "1"], ["diff", "0", "1"], ["report"], ["report", "--format", "png"],
    ["report", "-o", "analysis.ipynb"], ["report", "--from", "results.tsv"], ["export", "1"],
    ["export", "1", "-o", "."], ["push"], ["revert", "1"], ["approve", "1"],
    ["reject", "1"], ["status"],
    ["init", ".", "--from", "best", "--tag", "next"], ["init", ".", "--tag", "nov21"],
)  # fmt: skip


def test_every_verb_leaves_the_files_of_somebody_who_comes_from_upstream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {verb for verb, *_ in WALK} == {verb for verbs in VERBS.values() for verb in verbs}
    monkeypatch.setenv("AUTORESEARCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(pace, "PAUSES", (0.0, 0.0))
    root = tmp_path / "clone"
    root.mkdir()
    monkeypatch.chdir(root)
    names = ("README.md", "program.md", ".gitignore", "pyproject.toml", "uv.lock", "analysis.ipynb",
             "progress.png", "run.log", "results.tsv", "report.html", "report.md", "constants.py",
             "data/notes.txt")  # fmt: skip
    before = fill(root, *names)
    (root / "results.tsv").write_bytes(USERS)
    before["results.tsv"] = USERS
    (root / "train.py").write_text("LR = 1.0\nfrom prepare import MAX_SEQ_LEN\n")
    (root / "prepare.py").write_text("MAX_SEQ_LEN = 2048\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "mine"]):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=root, check=True
        )
    assert main(["init", ".", "--tag", "nov21", "--preset", "cpu"]) == 0
    loop_driver.run(root, 2)
    for arguments in WALK:
        assert main(arguments) in EXIT_CODES, arguments
        assert "Traceback" not in capsys.readouterr().err, arguments
        after = {name: (root / name).read_bytes() for name in before}
        assert after == before, arguments
        assert (root / "prepare.upstream.py").read_text() == "MAX_SEQ_LEN = 2048\n", arguments


def test_init_and_demo_leave_a_folder_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = fill(tmp_path, *SCAFFOLDED, *WRITTEN)
    (tmp_path / "autoresearch.toml").write_text("")
    before["autoresearch.toml"] = b""
    assert isinstance(call("demo", "."), UsageError)
    assert call("init", ".", "--template", "compat") is None
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_results_go_next_to_those_of_the_user(night: Night) -> None:
    theirs, ours = night.root / "results.tsv", night.root / "results-nov21.tsv"
    theirs.write_bytes(USERS)
    for n in (1, 2):  # two runs
        upkeep = Upkeep(night.record, load_config(None).config)
        upkeep.begin()
        night.try_out(night.knob(n, 100 + n))
        upkeep.after_verdict(n)
    assert theirs.read_bytes() == USERS
    assert ours.read_text().count("\n") == 4
    [alert] = night.record.session().alerts
    assert "`results.tsv` is not as the lab wrote it and stays as it is" in alert.text
    assert "are in `results-nov21.tsv`" in alert.text
    ours.write_bytes(USERS)
    upkeep.after_verdict(2)
    assert ours.read_bytes() == USERS
    assert "are in `autoresearch log --tsv`" in night.record.session().alerts[-1].text
    theirs.unlink()
    upkeep.after_verdict(2)
    assert theirs.read_text().count("\n") == 4
    assert night.record.session().alerts[-1].is_over


def test_git_status_does_not_show_what_the_lab_writes(night: Night) -> None:
    (night.root / ".gitignore").write_text("results.tsv\n")  # as upstream's
    (night.root / "results.tsv").write_bytes(USERS)
    exclude = night.root / ".git" / "info" / "exclude"
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text("mine")
    upkeep = Upkeep(night.record, load_config(None).config)
    for _ in range(2):
        upkeep.begin()
    assert exclude.read_text() == "mine\n/results-nov21.tsv\n"
    assert night.record.repository.run("status", "--porcelain") == b" M .gitignore\n"


def test_results_of_the_lab_are_replaced_until_the_user_changes_them(night: Night) -> None:
    path = night.root / "results.tsv"
    upkeep = Upkeep(night.record, load_config(None).config)
    upkeep.begin()
    night.try_out(night.knob(1, 11))
    upkeep.after_verdict(1)
    assert path.read_text().count("\n") == 3
    shutil.rmtree(night.record.run_directory.state, ignore_errors=True)  # as the docs allow
    upkeep.begin()
    night.try_out(night.knob(2, 22))
    upkeep.after_verdict(2)
    assert path.read_text().count("\n") == 4
    edited = path.read_bytes() + b"abc\t1.0\t1.0\tkeep\tmine\n"
    path.write_bytes(edited)
    night.try_out(night.knob(3, 33))
    upkeep.after_verdict(3)
    assert path.read_bytes() == edited
    assert (night.root / "results-nov21.tsv").read_text().count("\n") == 5


@pytest.mark.parametrize("lost", ["note", "file"])
@pytest.mark.parametrize("has_state", [True, False])
def test_a_kill_leaves_a_file_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str, has_state: bool
) -> None:
    if has_state:
        (tmp_path / ".autoresearch").mkdir()
    path = tmp_path / "report.html"
    write_ours(path, b"1")
    write_ours(path, b"2")
    write = autoresearch.util.files.write_file

    def killed(target: Path, content: bytes) -> None:
        if (target == path) == (lost == "file"):
            raise KeyboardInterrupt
        write(target, content)

    with monkeypatch.context() as patch:
        patch.setattr(autoresearch.util.files, "write_file", killed)
        with pytest.raises(KeyboardInterrupt):
            write_ours(path, b"3")
    assert path.read_bytes() == b"2"
    write_ours(path, b"4")
    assert path.read_bytes() == b"4"


def _edit(path: Path) -> None:
    path.write_bytes(b"mine")


def _link(path: Path) -> None:
    (path.parent / "theirs").write_bytes(b"ours")
    path.unlink()
    path.symlink_to("theirs")


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [_edit, _link, _dangling, _folder])
def test_what_the_user_put_there_is_refused(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "report.md"
    write_ours(path, b"ours")
    change(path)
    kind = path.lstat().st_mode
    for content in (b"ours", b"new"):
        with pytest.raises(ForeignFileError, match=r"report\.md"):
            write_ours(path, content)
    assert path.lstat().st_mode == kind


def test_a_report_is_replaced_by_the_next(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = Night(record)
    night.start()
    monkeypatch.chdir(night.root)
    outside = tmp_path / "elsewhere" / "r.md"
    for n in (1, 2):
        night.try_out(night.knob(n, 100 + n))
        for name in ("report.md", str(outside)):
            assert call("report", "-o", name) is None
        assert f"#{n}" in (night.root / "report.md").read_text()
    outside.write_text("mine")
    assert isinstance(call("report", "-o", str(outside)), ForeignFileError)
    assert outside.read_text() == "mine"
