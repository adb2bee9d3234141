"""The person's working tree, index and HEAD are respected."""

from pathlib import Path

import pytest
from record_support import TRAIN, Night, git, undo

from autoresearch.paths import RunDirectory
from autoresearch.record.git_command import RefLockedError
from autoresearch.record.record import Record
from autoresearch.types import Verdict


def test_a_dirty_file_is_left_and_its_index_too(night: Night) -> None:
    mine = TRAIN + "# mine\n"
    night.edit(mine)
    kept = night.try_out(night.knob(3, 33))
    assert night.record.tip() == kept.commit
    assert (night.root / "train.py").read_text() == mine
    assert not night.record.update_worktree(kept.commit)
    assert night.record.worktree.given() == kept.parent


def test_an_edit_back_to_the_state_before_is_left(night: Night) -> None:
    night.try_out(night.knob(3, 33))
    night.edit(TRAIN)
    assert night.record.update_worktree(night.record.tip())
    assert (night.root / "train.py").read_text() == TRAIN
    assert night.hand_edit() == {"train.py": TRAIN}


def test_a_locked_index_is_named_and_made_up_for(night: Night) -> None:
    lock = night.root / ".git" / "index.lock"
    lock.touch()
    experiment = night.propose(night.knob(3, 33), "x")
    night.record.judge(experiment.number, Verdict.KEEP, "baseline")
    with pytest.raises(RefLockedError, match=r"index\.lock"):
        night.record.update_worktree(night.record.tip())
    assert (night.root / "train.py").read_text() == TRAIN
    lock.unlink()
    assert night.record.update_worktree(night.record.tip())
    assert git(night.root, "status", "--porcelain") == ""


def test_a_staged_edit_is_left(night: Night) -> None:
    night.edit(TRAIN + "# mine\n")
    git(night.root, "add", "train.py")
    (night.root / "train.py").write_text(TRAIN)
    kept = night.try_out(night.knob(3, 33))
    assert not night.record.update_worktree(kept.commit)
    assert "# mine" in git(night.root, "show", ":train.py")


def test_an_edit_of_another_file_does_not_matter(night: Night) -> None:
    (night.root / "program.md").write_text("new orders\n")
    kept = night.try_out(night.knob(3, 33))
    assert "KNOB_03 = 33" in (night.root / "train.py").read_text()
    assert (night.root / "program.md").read_text() == "new orders\n"
    assert git(night.root, "status", "--porcelain") == "M program.md"
    assert night.record.worktree.given() == kept.commit


@pytest.mark.parametrize("where", [["--detach"], ["-b", "mine"]])
def test_a_head_that_is_elsewhere_is_left(night: Night, where: list[str]) -> None:
    git(night.root, "checkout", "-q", *where)
    before = git(night.root, "rev-parse", "HEAD")
    kept = night.try_out(night.knob(3, 33))
    assert git(night.root, "rev-parse", "HEAD") == before
    assert (night.root / "train.py").read_text() == TRAIN
    assert night.hand_edit() is None
    assert git(night.root, "status", "--porcelain") == ""
    git(night.root, "checkout", "-q", "autoresearch/nov21")
    assert night.hand_edit() is None
    assert night.record.worktree.given() == kept.commit
    night.try_out(night.knob(4, 44))
    assert "KNOB_04 = 44" in (night.root / "train.py").read_text()


def test_a_deleted_file_stays_deleted(night: Night) -> None:
    (night.root / "train.py").unlink()
    night.try_out(night.knob(3, 33))
    assert not (night.root / "train.py").exists()


def test_a_linked_file_is_left(night: Night, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere.py"
    other.write_text(TRAIN)
    (night.root / "train.py").unlink()
    (night.root / "train.py").symlink_to(other)
    night.try_out(night.knob(3, 33))
    assert other.read_text() == TRAIN
    assert (night.root / "train.py").is_symlink()


def test_windows_line_endings_of_a_checkout_are_kept(night: Night) -> None:
    git(night.root, "config", "core.autocrlf", "true")
    (night.root / "train.py").write_bytes(TRAIN.replace("\n", "\r\n").encode())
    assert night.hand_edit() is None
    night.try_out(night.knob(3, 33))
    content = (night.root / "train.py").read_bytes()
    assert b"KNOB_03 = 33\r\n" in content
    assert git(night.root, "status", "--porcelain") == ""


def test_the_mode_of_a_file_is_kept(night: Night) -> None:
    (night.root / "train.py").chmod(0o755)
    git(night.root, "commit", "-qam", "make it executable")
    night.record.sync_tip()
    night.record.update_worktree(night.record.tip())
    night.try_out(night.knob(3, 33))
    assert (night.root / "train.py").stat().st_mode & 0o777 == 0o755
    assert git(night.root, "status", "--porcelain") == ""


def test_a_commit_of_the_person_is_noticed_and_is_no_hand_edit(night: Night) -> None:
    night.edit(TRAIN + "# mine\n")
    git(night.root, "commit", "-qam", "mine")
    mine = git(night.root, "rev-parse", "HEAD")
    assert night.hand_edit() is None
    assert night.record.sync_tip() == mine
    night.try_out(night.knob(3, 33))
    assert (night.root / "train.py").read_text().endswith("# mine\n")
    assert git(night.root, "status", "--porcelain") == ""


def test_hooks_signing_and_trailers_of_the_person_do_not_run(night: Night, isolated: Path) -> None:
    hooks = night.root / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-commit", "commit-msg", "reference-transaction", "post-index-change"):
        (hooks / name).write_text("#!/bin/sh\ntouch hooked\nexit 1\n")
        (hooks / name).chmod(0o755)
    for name, value in {
        "commit.gpgSign": "true",
        "gpg.program": "/bin/false",
        "trailer.x.command": "false",
        "core.fsmonitor": "/bin/false",
        "core.editor": "/bin/false",
        "log.showSignature": "true",
        "core.commentChar": "v",
        "i18n.commitEncoding": "latin1",
    }.items():
        git(night.root, "config", name, value)
    (isolated / "gitconfig").write_text("[commit]\n\tgpgSign = true\n[broken\n")
    night.try_out(night.knob(3, 33), "gr\u00f6\u00dfer \u2603")
    assert not (night.root / "hooked").exists()
    assert night.record.session().experiment(1).description == "gr\u00f6\u00dfer \u2603"
    assert night.record.repository.message(night.record.tip()).startswith("gr\u00f6\u00dfer \u2603")


def test_variables_of_a_surrounding_git_do_not_matter(
    night: Night, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_NAMESPACE", "other")
    with Record.open(night.record.run_directory) as record:
        Night(record, number=1).try_out(night.knob(3, 33))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.delenv(name)
    monkeypatch.delenv("GIT_NAMESPACE")
    assert git(night.root, "status", "--porcelain") == ""
    assert len(night.record.session().experiments) == 2


def test_a_repository_with_long_shas_works(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--object-format=sha256", "-b", "autoresearch/nov21")
    (tmp_path / "train.py").write_text(TRAIN)
    with Record.create(RunDirectory(tmp_path), "nov21", ["train.py"]) as record:
        (tmp_path / "autoresearch.toml").touch()
        night = Night(record)
        night.start()
        night.try_out(night.knob(3, 33))
        assert len(record.tip()) == 64
        assert "KNOB_03 = 33" in (tmp_path / "train.py").read_text()
        undo(night.record, "1")
        assert (tmp_path / "train.py").read_text() == TRAIN


def test_packed_refs_and_a_collected_repository_work(night: Night) -> None:
    git(night.root, "gc", "-q", "--prune=now")
    assert not (night.root / ".git/refs/heads/autoresearch/nov21").exists()
    night.try_out(night.knob(3, 33))
    git(night.root, "pack-refs", "--all")
    night.try_out(night.knob(4, 44))
    assert night.record.session().best == 2
