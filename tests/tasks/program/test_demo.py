"""`demo --template NAME` of each template ends with a gain that a confirmation bears out."""

from pathlib import Path

import pytest

from autoresearch.bootstrap import presets
from autoresearch.cli import main
from autoresearch.paths import RunDirectory
from autoresearch.record.record import Record

TEMPLATES = [t for t in presets.templates() if presets.is_program(t) and t != "program"]


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_demo_of_a_template(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "shown", "--template", template]) == 0
    with Record.open(RunDirectory(tmp_path / "shown")) as record:
        session = record.session()
    assert session.kept
    assert session.confirmations[-1].is_gain
