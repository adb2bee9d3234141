"""What a machine or an editor may do to settings, homes and caches."""

from collections.abc import Callable
from pathlib import Path

import pytest

from autoresearch import paths
from autoresearch.bootstrap import doctor
from autoresearch.config import described, load_config
from autoresearch.errors import ConfigError
from autoresearch.paths import RunDirectory
from autoresearch.sandbox import machine_paths
from autoresearch.types import LARGEST

SETTINGS = '[trial]\nbudget_seconds = 7 # "ä"\n'


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_the_mark_of_a_windows_editor_is_no_part_of_the_settings(
    tmp_path: Path, ending: str
) -> None:
    path = tmp_path / "autoresearch.toml"
    path.write_bytes(SETTINGS.replace("\n", ending).encode("utf-8-sig"))
    assert load_config(RunDirectory(tmp_path)).config.trial.budget_seconds == 7


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1", "cp1252"])
def test_settings_in_another_encoding_are_refused_in_words(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "autoresearch.toml").write_bytes(SETTINGS.encode(encoding))
    with pytest.raises(ConfigError, match="is not UTF-8") as raised:
        load_config(RunDirectory(tmp_path))
    assert "UTF-8" in str(raised.value.hint)


def test_no_share_of_the_mix_is_infinite(tmp_path: Path) -> None:
    (tmp_path / "autoresearch.toml").write_text("[proposer]\nmix = {search = inf}")
    with pytest.raises(ConfigError, match=r"finite number|greater"):
        load_config(RunDirectory(tmp_path))


@pytest.mark.parametrize("value", ["inf", "nan", "-inf", "1e300", "-1e300", "9" * 40])
def test_no_number_is_more_than_a_clock_or_a_disk_can_count(tmp_path: Path, value: str) -> None:
    for setting in described():
        if type(setting.default) in LARGEST:
            section, name = setting.key.split(".")
            (tmp_path / "autoresearch.toml").write_text(f"[{section}]\n{name} = {value}\n")
            with pytest.raises(ConfigError, match=rf"`{setting.key}`: (input should|unable)"):
                load_config(RunDirectory(tmp_path))


@pytest.mark.parametrize("value", ["inf", "-Infinity", "NaN", "1e999"])
def test_no_setting_of_the_environment_is_infinite(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("AUTORESEARCH_TRIAL_STARTUP_SECONDS", value)
    with pytest.raises(ConfigError, match=r"STARTUP_SECONDS.*(finite number|greater)"):
        load_config(None)


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No HOME, and a user that /etc/passwd does not know."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("AUTORESEARCH_CACHE_DIR", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 12_345_678)


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize(
    "ask",
    [
        paths.home,
        paths.cache_directory,
        lambda: paths.expanded("~nobody-of-this-name/x"),
        lambda: machine_paths.interpreter_paths.__wrapped__()[0],
        lambda: machine_paths.program_paths("sh", None) or Path(),
    ],
)
def test_a_user_without_a_home(ask: Callable[[], object]) -> None:
    ask()


@pytest.mark.usefixtures("homeless")
def test_without_a_home_nothing_is_written_to_a_folder_named_tilde() -> None:
    assert paths.cache_directory().is_absolute()
    assert not paths.home().exists()


def test_a_cache_that_is_a_file_is_found_by_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for cache in (file, file / "below" / "it"):
        monkeypatch.setenv("AUTORESEARCH_CACHE_DIR", str(cache))
        (found,) = doctor._disk(doctor._State(is_quick=True))
        assert found.status == "fail"
        assert "is a file" in found.text


def test_a_mix_of_nothing_is_told_in_the_words_of_its_check(tmp_path: Path) -> None:
    (tmp_path / "autoresearch.toml").write_text("[proposer]\nmix = {llm = 0.0}")
    with pytest.raises(ConfigError, match=r"`proposer.mix`: no share is above 0, got"):
        load_config(RunDirectory(tmp_path))
