"""results.tsv: ours, and anybody's."""

from pathlib import Path

import pytest
from record_support import Night

from autoresearch.errors import WorkError
from autoresearch.record.results_tsv import read_tsv, to_tsv, write_tsv
from autoresearch.types import Verdict

QUIRKS = (
    "\ufeffCommit\tval_bpb\tmemory_gb\tSTATUS\tdescription\textra\r\n"
    "\t0.997900\t44.0\tKEEP\tbaseline\r\n"
    'a1b2c3d\t0.993200\t44.2\tkeep\t"raise ""LR"" to 0.04"\tx\r\n'
    "b2c3d4e\t1.005000\t44.0\tDiscard\r\n"
    "c3d4e5f\t0.000000\t0.0\tcrash\tdouble width, \x1b[31mOOM\r\n"
    "\r\n"
    "d4e5f6a\tnan\t-\tfailed\tx\r\n"
)


def test_a_foreign_file_with_quirks_is_read(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    path.write_bytes(QUIRKS.encode())
    session = read_tsv(path)
    assert [e.verdict for e in session.experiments] == [
        Verdict.KEEP, Verdict.KEEP, Verdict.DISCARD, Verdict.CRASH, Verdict.CRASH,
    ]  # fmt: skip
    assert [e.val_bpb for e in session.experiments] == [0.9979, 0.9932, 1.005, None, None]
    assert session.experiments[0].commit == ""
    assert session.experiments[1].description == 'raise "LR" to 0.04'
    assert session.experiments[2].description == ""
    assert session.experiments[3].description == "double width, \u241b[31mOOM"
    assert session.experiments[0].trials[0].result.peak_memory_mb == 44.0 * 1024
    assert session.experiments[3].trials[0].result.peak_memory_mb is None
    assert (session.best, session.state) == (1, "finished")


@pytest.mark.parametrize(
    "text",
    [
        "abc1234\t1.5\t2.0\tkeep\tx\n",
        "commit,val_bpb,status\nabc1234,1.5,keep\n",
        "description\tstatus\tval_bpb\nx\tkept\t1.5\n",
        "commit\tval_bpb\nabc1234\t1.5\n",
        "commit\tval_bpb\tpeak_memory_mb\tstatus\tdescription\rabc1234\t1.5\t2\tkeep\tx\r",
    ],
)
def test_other_shapes_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.tsv"
    path.write_text(text, newline="")
    session = read_tsv(path)
    assert session.experiments[0].val_bpb == 1.5
    assert session.experiments[0].verdict is Verdict.KEEP


@pytest.mark.parametrize("content", [b"", b"hello\nworld\n", b"\xff\xfe\x00\x01"])
def test_a_file_without_results_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.tsv"
    path.write_bytes(content)
    with pytest.raises(WorkError, match="holds no results"):
        read_tsv(path)
    with pytest.raises(WorkError, match="cannot read"):
        read_tsv(tmp_path / "none.tsv")


def test_ours_goes_round(night: Night, tmp_path: Path) -> None:
    night.try_out(night.knob(3, 33), "knob\t3 \x1b up")
    night.try_out(night.knob(4, 44), "worse", bpb=1.6, keep=False)
    night.try_out(night.knob(5, 55), "boom", bpb=None)
    night.propose(night.knob(6, 66), "not yet")
    path = night.record.run_directory.results
    write_tsv(night.record.session(), path)
    text = path.read_text()
    commit = night.record.session().experiment(1).commit[:7]
    assert f"{commit}\t1.400000\t2.0\tkeep\tknob 3 \u241b up\n" in text
    assert "\t0.000000\t0.0\tcrash\tboom\n" in text
    assert "not yet" not in text
    again = read_tsv(path)
    assert [e.verdict for e in again.experiments] == [
        e.verdict for e in night.record.session().experiments if e.verdict
    ]
    assert to_tsv(again) == text
