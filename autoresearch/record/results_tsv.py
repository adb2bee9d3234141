"""results.tsv, the field's five columns: commit, val_bpb, memory_gb, status, description.

Written from a session, and read from anybody's, with the quirks such files have: no sha in the first row, 0.000000
for a crash, CR LF, missing or further columns in any order, upper-case status, quotes, a missing header.
"""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path

from autoresearch.errors import WorkError
from autoresearch.types import (
    MB_PER_GB,
    Experiment,
    Outcome,
    Session,
    State,
    Trial,
    TrialResult,
    Verdict,
)
from autoresearch.util.files import write_ours
from autoresearch.util.text import clean_line

COLUMNS = ("commit", "val_bpb", "memory_gb", "status", "description")
_ALIASES = {
    alias: name
    for name, aliases in {
        "commit": "commit_hash sha hash",
        "val_bpb": "bpb score",
        "memory_gb": "memory mem_gb peak_memory_gb peak_vram_gb vram_gb",
        "memory_mb": "peak_vram_mb peak_memory_mb memory_mb",
        "status": "verdict result",
        "description": "desc change",
    }.items()
    for alias in aliases.split()
}
_STATUS = {
    word: verdict
    for verdict, words in {
        Verdict.KEEP: "keep kept baseline",
        Verdict.DISCARD: "discard discarded revert reverted",
        Verdict.CRASH: "crash crashed fail failed error oom timeout",
        Verdict.INVALID: "invalid",
    }.items()
    for word in words.split()
}


def to_tsv(session: Session) -> str:
    """Return the judged experiments of a session as results.tsv, in order, with a header."""
    rows = ["\t".join(COLUMNS)]
    for experiment in session.experiments:
        if experiment.verdict is None:
            continue
        bpb = experiment.val_bpb
        memory = experiment.peak_memory_mb or 0.0
        status = "crash" if experiment.verdict is Verdict.INVALID else str(experiment.verdict)
        is_scored = bpb is not None and experiment.verdict in (Verdict.KEEP, Verdict.DISCARD)
        rows.append(
            "\t".join(
                (
                    experiment.commit[:7],
                    f"{bpb if is_scored and bpb is not None else 0.0:.6f}",
                    f"{memory / MB_PER_GB if is_scored else 0.0:.1f}",
                    status,
                    clean_line(experiment.description),
                )
            )
        )
    return "\n".join(rows) + "\n"


def write_tsv(session: Session, path: Path) -> None:
    """Write the table of a session to a file, as `write_ours` does."""
    write_ours(path, to_tsv(session).encode())


def read_tsv(path: Path) -> Session:
    """Read anybody's results.tsv as a session; what the file does not say is missing.

    Raises:
        WorkError: it cannot be read, or holds no row that looks like a result.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", "replace")
    except OSError as exc:
        raise WorkError(
            f"cannot read `{path}`: {exc.strerror}", hint="name a results.tsv file", kind="record"
        ) from exc
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    rows = [row for row in _rows(text) if any(cell.strip() for cell in row)]
    columns = list(COLUMNS)
    if rows and _is_header(rows[0]):
        columns = [_ALIASES.get(name, name) for name in map(_plain, rows.pop(0))]
    experiments = tuple(
        _experiment(number, dict(zip(columns, row, strict=False)))
        for number, row in enumerate(rows)
    )
    if not any(e.verdict is not None for e in experiments):
        raise WorkError(
            f"`{path}` holds no results",
            hint="expected tab-separated columns: " + ", ".join(COLUMNS),
            kind="record",
        )
    best = [e for e in experiments if e.verdict is Verdict.KEEP]
    return Session(
        tag=path.stem,
        branch="",
        experiments=experiments,
        state="finished",
        stop_reason="foreign",
        best=best[-1].number if best else 0,
        tip=best[-1].commit if best else "",
    )


def _rows(text: str) -> list[list[str]]:
    """Split lines at tabs; a field in quotes as `csv` writes them is taken out of them."""
    if "\t" not in text and "," in text:
        return list(csv.reader(io.StringIO(text)))
    return [[_unquote(cell) for cell in line.split("\t")] for line in text.split("\n")]


def _unquote(cell: str) -> str:
    cell = cell.strip()
    if len(cell) >= 2 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _is_header(row: list[str]) -> bool:
    names = {_ALIASES.get(n, n) for n in map(_plain, row)}
    return len(names & {*COLUMNS, "memory_mb"}) >= 2


def _number(cell: str) -> float | None:
    try:
        value = float(cell.strip().rstrip("GBgb ").replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _experiment(number: int, row: Mapping[str, str]) -> Experiment:
    status = _plain(row.get("status", ""))
    verdict = _STATUS.get(status) or _STATUS.get(status.split("_")[0].split(":")[0])
    bpb = _number(row.get("val_bpb", ""))
    memory_gb, memory_mb = _number(row.get("memory_gb", "")), _number(row.get("memory_mb", ""))
    commit = row.get("commit", "").strip().lower()
    if not commit or not all(c in "0123456789abcdef" for c in commit):
        commit = ""
    if verdict is None and bpb is not None:
        verdict = Verdict.KEEP if number == 0 else Verdict.DISCARD
    result = TrialResult(
        seed=0,
        outcome=Outcome.OK if bpb is not None else Outcome.CRASH,
        reason="" if bpb is not None else "exception",
        bpb=bpb,
        peak_memory_mb=memory_mb or (memory_gb * MB_PER_GB if memory_gb else None),
    )
    return Experiment(
        number=number,
        commit=commit,
        parent="",
        state=State.JUDGED if verdict else State.ABANDONED,
        description=clean_line(row.get("description", "")) or ("baseline" if number == 0 else ""),
        proposer="baseline" if number == 0 else "",
        verdict=verdict,
        reason=status if verdict is Verdict.CRASH and status in ("oom", "timeout") else "",
        trials=(Trial(result, setup="", started_at="", event=""),),
    )
