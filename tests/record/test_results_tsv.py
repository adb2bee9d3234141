"""results.tsv: ours, and anybody's."""

import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_support import Night

from autoresearch.errors import WorkError
from autoresearch.record.results_tsv import read_tsv, to_tsv, write_tsv
from autoresearch.types import Session, Verdict

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
    assert [e.score for e in session.experiments] == [0.9979, 0.9932, 1.005, None, None]
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
    assert session.experiments[0].score == 1.5
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
    night.try_out(night.knob(4, 44), "worse", score=1.6, keep=False)
    night.try_out(night.knob(5, 55), "boom", score=None)
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


HEADER = "commit\tval_bpb\tmemory_gb\tstatus\tdescription"


def read(tmp_path: Path, *rows: str, header: str = HEADER) -> Session:
    """Return a table whose rows are given with blanks in place of tabs, a description of one word each."""
    lines = ["\t".join(row.split(" ", header.count("\t"))) for row in rows]
    (tmp_path / "f.tsv").write_text("\n".join([header, *lines]) + "\n")
    return read_tsv(tmp_path / "f.tsv")


def told(session: Session) -> str:
    return "\n".join(alert.text for alert in session.alerts)


@pytest.mark.parametrize(
    ("scores", "best", "deltas", "is_told"),
    [
        ("1.389503 1.382862 1.389153", 1, [None, -0.006641, 0.006291], True),
        ("1.094873 1.099 1.179734", 0, [None, 0.004127, 0.084861], True),
        ("1.5 1.4 1.45 1.3", 3, [None, -0.1, 0.05, -0.1], False),
    ],
)
def test_the_best_is_the_lowest_that_was_kept(tmp_path, scores, best, deltas, is_told) -> None:
    rows = [f"a{n} {score} 1 keep change{n}" for n, score in enumerate(scores.split())]
    session = read(tmp_path, *rows)
    assert session.best == best
    assert session.tip == f"a{best}"
    found = [e.decision.delta if e.decision else None for e in session.experiments]
    assert found == [d if d is None else pytest.approx(d) for d in deltas]
    assert ("is worse than the best" in told(session)) is is_told


def test_crashes_before_the_baseline_are_no_baseline(tmp_path: Path) -> None:
    session = read(
        tmp_path,
        "a0 0.000000 0 crash baseline",
        "a1 0.000000 0 oom baseline",
        "a2 1.4 1 keep baseline",
        "a3 1.3 1 keep wider",
    )
    assert [e.number for e in session.experiments] == [1, 2, 0, 3]
    assert (session.best, session.experiment(0).score) == (3, 1.4)
    assert told(session) == ""


def test_a_sorted_table_keeps_its_baseline(tmp_path: Path) -> None:
    session = read(tmp_path, "a3 1.38 1 keep x", "a2 1.389 1 keep y", "a1 1.40 1 baseline z")
    assert session.experiment(0).score == 1.40
    assert session.experiment(session.best).score == 1.38


SECOND = [
    "a1 1.85 1 keep baseline", "a2 1.807902 1 keep x",
    "b1 2.11 1 keep baseline (a laptop)", "b2 2.073282 1 keep y", "b3 2.2 1 discard z",
]  # fmt: skip


def test_a_second_baseline_begins_a_comparison(tmp_path: Path) -> None:
    session = read(tmp_path, *SECOND)
    assert session.best == 1
    assert len({e.setup for e in session.experiments}) == 2
    assert session.experiment(3).decision.delta == pytest.approx(-0.036718)
    assert "#2 is another baseline, 2.110000; rows compared with it only: 2" in told(session)
    assert "#3, 2.073282" in told(session)
    session = read(tmp_path, "a1 1.1 1 keep baseline", *SECOND[2:])  # nothing was gained before
    assert [session.experiment(n).score for n in (0, session.best)] == [2.11, 2.073282]


def test_each_machine_has_its_own_baseline(tmp_path: Path) -> None:
    header = HEADER.replace("memory_gb", "gpu")
    rows = ["a 1.5 H100 keep q", "b 2.0 M1 keep q", "c 1.4 H100 keep q", "d 1.9 M1 keep q"]
    session = read(tmp_path, *rows, header=header)
    assert session.experiment(session.best).score == 1.4
    assert [e.decision.delta for e in session.experiments[2:]] == [pytest.approx(-0.1)] * 2
    assert "another baseline, 2.000000" in told(session)


@pytest.mark.parametrize("name", ["val_rmse", "score", "val_psnr", "val_loss"])
def test_another_metric_is_refused(tmp_path: Path, name: str) -> None:
    header = HEADER.replace("val_bpb", name)
    with pytest.raises(WorkError, match=f"no column `val_bpb`; its columns are .*`{name}`") as info:
        read(tmp_path, "a 32.6 1 keep baseline", "b 27.7 1 keep linear", header=header)
    assert "name it `val_bpb`" in info.value.hint


@pytest.mark.parametrize(("name", "means"), [("bpb", "val_bpb"), ("verdict", "status")])
def test_two_columns_for_one_are_refused(tmp_path: Path, name: str, means: str) -> None:
    header = f"commit\tval_bpb\t{name}\tstatus\tdescription"
    session = read(tmp_path, "a 1.5 9 keep baseline", header=header)  # the exact name is meant
    assert session.experiment(0).score == 1.5
    header = header.replace(f"\t{means}", f"\t{name}")
    with pytest.raises(WorkError, match=f"2 columns that may be `{means}`"):
        read(tmp_path, "a 1.5 9 keep baseline", header=header)


def test_memory_without_a_unit_is_not_guessed(tmp_path: Path) -> None:
    header = HEADER.replace("memory_gb", "memory")
    session = read(tmp_path, "a 1.5 45056 keep baseline", header=header)
    assert session.experiment(0).peak_memory_mb is None


def test_status_words_are_read_or_counted(tmp_path: Path) -> None:
    session = read(
        tmp_path,
        "b4 1.865 1 baseline d",
        "a1 1.864 1 best d",
        "a2 1.863 1 New-Best d",
        "a3 1.9 1 rejected d",
        "a4 1.8 1 tentative d",
        "a5 1.8 1 tentative d",
        "a6 1.9 1 crash(oom) d",
        "a7 1.7 1 kept,then-reverted d",
        "a8 1.7 1  d",
        "a9 1.8 1 **keep** d",
        "b1 1.8 1 keep? d",
    )
    assert [e.verdict and e.verdict.value for e in session.experiments] == [
        "keep", "keep", "keep", "discard", None, None, "crash", None, None, "keep", None,
    ]  # fmt: skip
    assert session.best == 9
    assert session.experiment(4).reason == "tentative"
    assert "`tentative` 2, `kept,then_reverted` 1" in told(session)
    assert "do not say whether they were kept: 1" in told(session)


def test_what_was_not_kept_or_has_no_score_is_not_made_so(tmp_path: Path) -> None:
    session = read(tmp_path, "a1 1.5 1 discard x", "a2 0.0 1 keep y", "a3 1.4 1 discard z")
    assert [str(e.verdict) for e in session.experiments] == ["discard", "keep", "discard"]
    assert "were kept and have no score: 1" in told(session)
    assert "#0 is only the first" in told(session)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a1 1.5bpb 1 keep x", "no row with a number as val_bpb .* see line 2"),
        ("a1 1.5 1 \u274c x", "does not say which rows were kept; its status words are `\u274c`"),
        ("a1 1.5 1 no x", "its status words are `no`"),
    ],
)
def test_a_table_that_says_it_otherwise_is_refused_with_what_was_seen(
    tmp_path: Path, row: str, said: str
) -> None:
    with pytest.raises(WorkError, match=said):
        read(tmp_path, "a0 x x x x", row)


def test_a_file_without_an_end_is_no_table() -> None:
    with pytest.raises(WorkError, match="longer than 64 MB"):
        read_tsv(Path("/dev/zero"))


def test_lines_of_another_kind_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "f.tsv"
    path.write_text(
        f"# my notes\n{HEADER}\na1\t1.9\t1\tkeep\tbaseline\n-----\n2026-08-03\twarmup\t1.864606\t157\tx\n"
        "2026-08-03\t157\t1.86\t2048\tx\n2026,8,3\na2\t1.8\t1\tkeep\tx\n"
    )
    session = read_tsv(path)
    assert [e.score for e in session.experiments] == [1.9, 1.8]
    assert "left out (5): 1, 4, 5, 6, 7" in told(session)


def test_a_second_table_is_read_by_its_own_header(tmp_path: Path) -> None:
    session = read(
        tmp_path,
        "a1 1.9 1 keep baseline",
        "status\tval_bpb\tcommit\tdescription",
        "keep\t1.8\ta2\tx",
        "date\tstatus\tloss\tdescription",
        "d1\tkeep\t0.3\tx",
    )
    assert [(e.commit, e.score) for e in session.experiments] == [("a1", 1.9), ("a2", 1.8)]
    assert "line 3 begins a table with other columns" in told(session)
    assert "left out (2): 5, 6" in told(session)


@pytest.mark.parametrize(
    "text",
    [
        "AAPL\t1460\t1157\t30.83\t1.2\nMSFT\t1460\t1157\t30.83\t1.2\n",
        "symbol\tn_days\toos_days\tsharpe\nAAPL\t1460\t1157\t0.7\n",
        "abc1234\t1.5\tkeep\t1\tx\n",
        "2026-08-03\t1.5\t2\tkeep\tx\n",
    ],
)
def test_a_table_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "f.tsv").write_text(text)
    with pytest.raises(WorkError, match="holds no results; it begins with"):
        read_tsv(tmp_path / "f.tsv")


def test_stdin_and_utf_16_are_read(tmp_path: Path, monkeypatch) -> None:
    data = f"{HEADER}\r\na1\t1.5\t1\tkeep\tbaseline\r\n".encode("utf-16")
    (tmp_path / "f.tsv").write_bytes(data)
    assert read_tsv(tmp_path / "f.tsv").experiment(0).commit == "a1"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert (session := read_tsv(Path("-"))).tag == "stdin"
    assert session.experiment(0).score == 1.5


CELLS = st.sampled_from(
    [*HEADER.split(), "bpb", "gpu", "a1", "1.5", "1.4", "0.0", "nan", "1e999", "-1", "keep", "best", "crash", "odd", "",
     "baseline", "baseline (2)", "2026-08-03", '"x', "\0", "\n", "#", "\u0661"]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.booleans(), st.lists(st.lists(CELLS, min_size=3, max_size=6), min_size=1, max_size=9))
def test_any_table_is_read_or_refused(tmp_path: Path, has_header: bool, rows) -> None:
    lines = [HEADER] * has_header + ["\t".join(row) for row in rows]
    (tmp_path / "f.tsv").write_text("\n".join(lines))
    try:
        session = read_tsv(tmp_path / "f.tsv")
    except WorkError:
        return
    assert sorted(e.number for e in session.experiments) == list(range(len(session.experiments)))
    best = session.experiment(session.best)
    kept = [e.score for e in (*session.kept, best) if e.setup == best.setup and e.score]
    assert best.score == min(kept, default=None)


def test_no_spreadsheet_takes_a_description_for_a_formula(night: Night, tmp_path: Path) -> None:
    night.try_out(night.knob(3, 33), "=cmd|'/c calc'!A1")
    text = to_tsv(night.record.session())
    assert "\t'=cmd|'/c calc'!A1\n" in text
    (tmp_path / "r.tsv").write_text(text)
    assert read_tsv(tmp_path / "r.tsv").experiments[-1].description == "=cmd|'/c calc'!A1"


def test_a_field_without_an_end_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("val_bpb,status\n1.0," + "x" * 200_000)
    with pytest.raises(WorkError, match="cannot be read"):
        read_tsv(tmp_path / "r.csv")
