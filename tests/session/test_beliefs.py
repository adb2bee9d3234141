"""The stored belief: a run continues from it, and does without it where it is gone, damaged or of another journal."""

from pathlib import Path
from typing import Any

import pytest
from stand_ins import variant

from autoresearch.decision import belief
from autoresearch.paths import RunDirectory
from autoresearch.session import beliefs


@pytest.fixture
def stored(night: Any, monkeypatch: Any) -> Path:
    """A night of two ideas whose belief is in the file, and forgotten in this process."""
    monkeypatch.setattr(beliefs, "EVERY", 1)
    monkeypatch.setattr(belief, "_known", {})
    night.run([variant(LR=2.0), variant(LR=2.5)], experiments=2)
    path = RunDirectory(night.root).cache / "belief" / "t.npz"
    assert path.is_file()
    belief._known.clear()
    return path


def taken_in(night: Any, monkeypatch: Any) -> int:
    """Run one idea more; return how many rows the first belief of the run took in."""
    real, counts = belief.Belief.after, []

    def after(self: belief.Belief, steps: Any, journal: str) -> belief.Belief:
        steps = list(steps)
        counts.append(len(steps))
        return real(self, steps, journal)

    monkeypatch.setattr(belief.Belief, "after", after)
    night.run([variant(LR=2.8)], experiments=1)
    return counts[0]


def test_a_run_continues_from_what_was_believed(night: Any, stored: Path, monkeypatch: Any):
    assert taken_in(night, monkeypatch) == 0
    kept = night.session
    continued = belief.believe(kept).believed()
    belief._known.clear()
    whole = belief.believe(kept).believed()
    assert continued == whole


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", None])
def test_without_it_the_journal_is_read_once(
    night: Any, stored: Path, monkeypatch: Any, damage: bytes | None
):
    if damage is None:
        stored.unlink()
    else:
        stored.write_bytes(damage)
    assert taken_in(night, monkeypatch) >= 5
    assert stored.stat().st_size > 1000


def test_one_of_another_journal_is_not_used(night: Any, stored: Path, monkeypatch: Any):
    other = belief.load(stored.read_bytes())
    assert other is not None
    other.last = (1, "of another journal")
    stored.write_bytes(other.dump())
    assert taken_in(night, monkeypatch) >= 5
