"""What the sandbox shows to every program must hold nothing of the user's."""

import subprocess
from pathlib import Path

import pytest

from autoresearch.bootstrap import doctor
from autoresearch.bootstrap.places import check_places
from autoresearch.config import load_config
from autoresearch.errors import PrerequisiteError
from autoresearch.paths import RunDirectory
from autoresearch.sandbox import machine_paths


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is one of the system's, under another name."""
    folder, link = tmp_path / "usr", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    monkeypatch.setattr(machine_paths, "_SYSTEM", (*machine_paths._SYSTEM, str(link)))
    return folder


@pytest.mark.parametrize("what", ["run directory", "cache", "home", "git repository", "text", ""])
def test_each_private_place_is_refused_there(
    what: str, shown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shown / "src/app" if what == "run directory" else tmp_path / "lab"
    source = "builtin:python"
    if what == "git repository":
        repository = shown / "repository"
        subprocess.run(["git", "init", "-q", repository], check=True)
        for line in ("commit -q --allow-empty -m x", f"worktree add -q {root}"):
            subprocess.run(["git", "-C", repository, *line.split()], check=True)
    elif what == "cache":
        monkeypatch.setenv("AUTORESEARCH_CACHE_DIR", str(shown / "cache"))
    elif what == "home":
        monkeypatch.setenv("HOME", str(shown))
        monkeypatch.setenv("AUTORESEARCH_CACHE_DIR", str(tmp_path))
    elif what == "text":
        source = str(shown / "books/*.txt")
    root.mkdir(parents=True, exist_ok=True)
    config = load_config(None, {"data.source": source}).config
    if not what:
        check_places(RunDirectory(root), config)
        return
    with pytest.raises(PrerequisiteError) as caught:
        check_places(RunDirectory(root), config)
    assert caught.value.exit_code == 3
    assert caught.value.message.count("` is in `") == 1
    assert f"{what} `" in caught.value.message


def test_doctor_says_it(shown: Path) -> None:
    (shown / "autoresearch.toml").write_text("")
    found = next(doctor._run_directory(doctor._State(is_quick=True), shown))
    assert (found.name, found.status) == ("places", "fail")
    assert str(shown) in found.text
