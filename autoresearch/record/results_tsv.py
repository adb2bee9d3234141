"""results.tsv, the field's five columns: commit, val_bpb, memory_gb, status, description.

Written from a session, and read from anybody's, with the quirks such files have: no sha in the first row, 0.000000
for a crash, CR LF, missing or further columns in any order, upper-case status, quotes, a missing header, crashes before
the baseline, a second baseline or machine, a second table. What is not understood is left out and counted in an alert.
"""

import csv
import io
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from autoresearch.errors import WorkError
from autoresearch.record import v1
from autoresearch.types import (
    MB_PER_GB,
    Alert,
    Decision,
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
        "val_bpb": "bpb",
        "memory_gb": "mem_gb peak_memory_gb peak_vram_gb vram_gb",
        "memory_mb": "peak_vram_mb peak_memory_mb memory_mb",
        "status": "verdict result",
        "description": "desc change",
        "machine": "gpu host hostname device hardware",
    }.items()
    for alias in aliases.split()
}
_STATUS = {
    word: verdict
    for verdict, words in {
        Verdict.KEEP: "keep kept baseline best new_best accept accepted improved improvement",
        Verdict.DISCARD: "discard discarded revert reverted reject rejected",
        Verdict.CRASH: "crash crashed fail failed error oom timeout",
        Verdict.INVALID: "invalid",
    }.items()
    for word in words.split()
}
_MISSING = {"", "-", "--", "?", "n/a", "na", "nan", "none", "null", "inf", *_STATUS}
"""Instead of a score."""
_MAX_BYTES = 64 << 20
_BASELINE = re.compile(
    r"((the|a|new|second|fresh|re)[ -]?)?baseline( run)?(\s*($|[.:(\[])| (on|for|again)\b)"
)


def to_tsv(session: Session) -> str:
    """Return the judged experiments of a session as results.tsv, in order, with a header."""
    rows = ["\t".join(COLUMNS).replace("val_bpb", session.metric.name)]
    for experiment in session.experiments:
        if experiment.verdict is None:
            continue
        score = experiment.score
        memory = experiment.peak_memory_mb or 0.0
        words = {Verdict.INVALID: "crash", Verdict.HELD: "discard"}  # of the original: no others
        status = words.get(experiment.verdict, str(experiment.verdict))
        is_scored = score is not None and status in ("keep", "discard")
        rows.append(
            "\t".join(
                (
                    experiment.commit[:7],
                    f"{score if is_scored and score is not None else 0.0:.6f}",
                    f"{memory / MB_PER_GB if is_scored else 0.0:.1f}",
                    status,
                    _no_formula(clean_line(experiment.description)),
                )
            )
        )
    return "\n".join(rows) + "\n"


def _no_formula(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula; `_said` takes the mark away."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _said(cell: str) -> str:
    return cell[1:] if cell.startswith(("'=", "'+", "'-", "'@")) else cell


def write_tsv(session: Session, path: Path) -> None:
    """Write the table of a session to a file, as `write_ours` does."""
    write_ours(path, to_tsv(session).encode())


@dataclass(frozen=True)
class _Row:
    """A line that looks like a result."""

    line: int
    score: float | None
    verdict: Verdict | None
    status: str
    cells: Mapping[str, str] = field(repr=False)

    @property
    def is_baseline(self) -> bool:
        """Whether it says that it is a baseline, and has a score."""
        text = self.cells.get("description", "").strip().lower()
        is_said = self.status == "baseline" or bool(_BASELINE.match(text))
        return is_said and self.score is not None and self.verdict in (Verdict.KEEP, None)


@dataclass
class _Comparison:
    """Rows whose scores may be compared: those of one machine with one baseline."""

    baseline: _Row | None
    rows: list[_Row]

    @property
    def best(self) -> _Row | None:
        """The row with the lowest score of those that were kept, the baseline among them."""
        kept = [
            r for r in self.rows if r.score and (r is self.baseline or r.verdict is Verdict.KEEP)
        ]
        return min(kept, key=lambda r: r.score or math.inf, default=None)


def read_tsv(path: Path) -> Session:
    """Return anybody's results.tsv as a session; `-` is stdin.

    What the file does not say is missing; what is not understood is counted in the session's alerts. The baseline is
    experiment 0, the others are in the order of the file, the best is the lowest score that was kept. A second
    baseline or machine is another setup.

    Raises:
        WorkError: it cannot be read, has no column val_bpb, or holds no row that looks like a result.
    """
    rows, remarks = _read(path)
    comparisons = _comparisons(rows)
    gains = [c for c in comparisons if c.baseline and c.best and c.best is not c.baseline]
    chosen = min(gains, key=lambda c: (c.best and c.best.score) or math.inf, default=comparisons[0])
    first = chosen.baseline or rows[0]
    rest = (row for row in rows if row is not first)
    numbers = {first.line: 0} | {row.line: number for number, row in enumerate(rest, 1)}
    experiments = {}
    for comparison in comparisons:
        setup = "" if comparison is chosen else f"line {comparison.rows[0].line}"
        remarks += _remarks(comparison, numbers, is_chosen=comparison is chosen)
        lowest = comparison.baseline.score if comparison.baseline else None
        for row in comparison.rows:
            is_baseline = row is first or row is comparison.baseline
            e = _experiment(row, numbers[row.line], setup, is_baseline=is_baseline)
            if row.score is not None and lowest is not None and row.verdict and not is_baseline:
                is_kept = row.verdict is Verdict.KEEP
                action: Literal["keep", "discard"] = "keep" if is_kept else "discard"
                e = replace(e, decision=Decision(action, e.reason, delta=row.score - lowest))
                lowest = min(lowest, row.score) if is_kept else lowest
            experiments[row.line] = e
    best = experiments[chosen.best.line] if chosen.best else None
    return Session(
        tag="stdin" if str(path) == "-" else path.stem,
        branch="",
        metric=v1.METRIC,
        experiments=tuple(experiments[row.line] for row in rows),
        state="finished",
        stop_reason="foreign",
        best=best.number if best else 0,
        tip=best.commit if best else "",
        alerts=tuple(Alert(text, at="") for text in reversed(remarks)),
    )


def _read(path: Path) -> tuple[list[_Row], list[str]]:
    """Return the results of a file, in order, and what to say of the rest."""
    columns: Mapping[str, int] | None = None
    rows: list[_Row] = []
    odd: list[int] = []
    remarks: list[str] = []
    refused, first_line = "", ""
    for line, cells in _lines(_text(path)):
        first_line = first_line or ", ".join(map(clean_line, cells))
        if _is_header(cells):
            found = _columns(path, cells)
            if rows and found != columns:
                remarks.append(f"line {line} begins a table with other columns")
            if "val_bpb" not in found:
                odd += [line] if rows else []
                refused = refused or ", ".join(f"`{clean_line(cell)}`" for cell in cells)
            columns = found
            continue
        row = _row(line, cells, columns, is_first=not rows)
        rows += [row] if row else []
        odd += [] if row else [line]
    if not any(row.verdict for row in rows):
        if refused:
            raise WorkError(
                f"`{path}` has no column `val_bpb`; its columns are {refused[:500]}",
                hint="if one of them is bits per byte, where less is better, name it `val_bpb` in that line",
                kind="record",
            )
        seen = f"holds no results; it begins with `{first_line[:100]}`"
        if rows:
            listed = ", ".join(sorted({f"`{row.status}`" for row in rows})[:8])
            seen = f"does not say which rows were kept; its status words are {listed}"
        elif columns is not None and odd:
            seen = f"has no row with a number as val_bpb and a word as status, see line {odd[0]}"
        raise WorkError(
            f"`{path}` {seen}",
            hint=f"expected tab-separated columns: {', '.join(COLUMNS)}; status is keep, discard or crash",
            kind="record",
        )
    if odd:
        more = f" and {len(odd) - 6} more" if len(odd) > 6 else ""
        which = ", ".join(map(str, odd[:6])) + more
        remarks.append(
            f"lines that are no results of this table are left out ({len(odd)}): {which}"
        )
    unknown = [row for row in rows if row.verdict is None]
    if words := Counter(row.status for row in unknown if row.status):
        said = ", ".join(f"`{word}` {count}" for word, count in words.most_common(8))
        remarks.append(f"status words that are not known, so these rows have no verdict: {said}")
    if silent := len(unknown) - words.total():
        remarks.append(f"rows that do not say whether they were kept: {silent}")
    kept = [row for row in rows if row.verdict is Verdict.KEEP]
    if unscored := sum(row.score is None for row in kept):
        remarks.append(f"rows that were kept and have no score: {unscored}")
    if len(kept) == unscored and not any(row.is_baseline for row in rows):
        remarks.append("no row is a baseline or was kept with a score: #0 is only the first one")
    return rows, remarks


def _text(path: Path) -> str:
    try:
        with nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise WorkError(
            f"cannot read `{path}`: {exc.strerror}", hint="name a results.tsv file", kind="record"
        ) from exc
    if len(data) > _MAX_BYTES:
        raise WorkError(
            f"`{path}` is longer than {_MAX_BYTES >> 20} MB: no table of results is",
            hint="name a results.tsv file",
            kind="record",
        )
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = data.decode(encoding, "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Split lines at tabs; a field in quotes as `csv` writes them is taken out of them. Empty lines are left out."""
    if "\t" not in text and "," in text:
        reader = csv.reader(io.StringIO(text))
        try:
            found = iter([(reader.line_num, row) for row in reader])
        except csv.Error as exc:
            raise WorkError(f"the table cannot be read: {exc}", kind="record") from exc
    else:
        lines = enumerate(text.split("\n"), 1)
        found = ((n, [_unquote(cell) for cell in line.split("\t")]) for n, line in lines)
    return ((n, row) for n, row in found if any(cell.strip() for cell in row))


def _unquote(cell: str) -> str:
    cell = cell.strip()
    if len(cell) >= 2 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _is_header(row: list[str]) -> bool:
    names = {_ALIASES.get(n, n) for n in map(_plain, row)}
    return len(names & {*COLUMNS, "memory_mb"}) >= 2 and not any(map(_is_number, row))


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    """Return the index of each known column.

    Raises:
        WorkError: two columns may be the score or the status.
    """
    names = list(map(_plain, header))
    found: dict[str, int] = {}
    for wanted in (*COLUMNS, "memory_mb", "machine"):
        where = [i for i, name in enumerate(names) if name == wanted]
        where = where or [i for i, name in enumerate(names) if _ALIASES.get(name) == wanted]
        if len(where) > 1 and wanted in ("val_bpb", "status"):
            which = " and ".join(f"`{clean_line(header[i])}`" for i in where)
            raise WorkError(
                f"`{path}` has {len(where)} columns that may be `{wanted}`: {which}",
                hint=f"name the right one `{wanted}` and the others otherwise",
                kind="record",
            )
        if where:
            found[wanted] = where[0]
    return found


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _number(cell: str) -> float | None:
    cell = cell.strip()
    value = float(cell.replace(",", ".")) if _is_number(cell) else 0.0
    return value if math.isfinite(value) and value > 0 else None


def _row(
    line: int, cells: Sequence[str], columns: Mapping[str, int] | None, *, is_first: bool
) -> _Row | None:
    """Return a line as a result, None where it is none: without a header only one of the five columns."""
    places = {name: i for i, name in enumerate(COLUMNS)} if columns is None else columns
    row = {name: cells[i] for name, i in places.items() if i < len(cells)}
    bpb, word = row.get("val_bpb"), row.get("status")
    is_there = bpb is not None and (word is not None or "status" not in places)
    if bpb is None or not is_there or not (_is_number(bpb) or bpb.strip().lower() in _MISSING):
        return None
    if columns is None and not (_is_commit(row["commit"]) and _is_number(row["memory_gb"])):
        return None
    status = _plain(word or "")
    status = re.sub(r"^[^\w+-]+|[^\w?]+$", "", status) or status
    if re.match(r"[\d+-]", status):
        return None
    verdict = _verdict(status)
    if verdict is None and not status and is_first and _number(bpb):
        verdict = Verdict.KEEP
    return _Row(line, _number(bpb), verdict, clean_line(status)[:24], row)


def _is_commit(cell: str) -> bool:
    return re.fullmatch("[0-9a-f]*", cell.strip().lower()) is not None


def _verdict(status: str) -> Verdict | None:
    """Return what a status says: its first word, unless another one contradicts it."""
    words = re.findall("[a-z]+", status)
    said = [_STATUS[word] for word in words if word in _STATUS]
    is_clear = len({verdict is Verdict.KEEP for verdict in said}) == 1 and "?" not in status
    return _STATUS.get(status) or (said[0] if is_clear and words[0] in _STATUS else None)


def _comparisons(rows: Sequence[_Row]) -> list[_Comparison]:
    """Return the rows by machine, and those of each by its baselines; in the order of the file."""
    by_machine: dict[str, list[_Row]] = {}
    for row in rows:
        by_machine.setdefault(_plain(row.cells.get("machine", "")), []).append(row)
    found: list[_Comparison] = []
    for mine in by_machine.values():
        named = [row for row in mine if row.is_baseline]
        kept = [row for row in mine if row.score and row.verdict is Verdict.KEEP]
        found.append(_Comparison(next(iter([*named, *kept]), None), []))
        for row in mine:
            if row in named[1:]:
                found.append(_Comparison(row, []))
            found[-1].rows.append(row)
    return found


def _remarks(
    comparison: _Comparison, numbers: Mapping[int, int], *, is_chosen: bool
) -> Iterator[str]:
    """Say what a reader of the figures would not expect of a comparison."""
    baseline, best = comparison.baseline, comparison.best
    if baseline is None or best is None:
        return
    if not is_chosen:
        yield (
            f"#{numbers[baseline.line]} is another baseline, {baseline.score:.6f}; rows compared with it"
            f" only: {len(comparison.rows) - 1}, the best of them is #{numbers[best.line]}, {best.score:.6f}"
        )
    last = [row for row in comparison.rows if row.score and row.verdict is Verdict.KEEP][-1:]
    if last and last[0] is not baseline and (last[0].score or 0) > (best.score or 0):
        yield (
            f"the last keep, #{numbers[last[0].line]}, is worse than the best, #{numbers[best.line]}:"
            f" {last[0].score:.6f} after {best.score:.6f}"
        )


def _experiment(row: _Row, number: int, setup: str, *, is_baseline: bool) -> Experiment:
    memory_gb = _number(row.cells.get("memory_gb", "").rstrip("GBgb "))
    memory_mb = _number(row.cells.get("memory_mb", ""))
    commit = row.cells.get("commit", "").strip().lower()
    verdict = row.verdict or (Verdict.KEEP if is_baseline and row.score else None)
    result = TrialResult(
        seed=0,
        outcome=Outcome.OK if row.score is not None else Outcome.CRASH,
        reason="" if row.score is not None else "exception",
        score=row.score,
        peak_memory_mb=memory_mb or (memory_gb * MB_PER_GB if memory_gb else None),
    )
    is_word = verdict is None or (verdict is Verdict.CRASH and row.status in ("oom", "timeout"))
    return Experiment(
        number=number,
        commit=commit if _is_commit(commit) else "",
        parent="",
        state=State.JUDGED if verdict else State.ABANDONED,
        description=clean_line(_said(row.cells.get("description", "")))
        or ("baseline" if is_baseline else ""),
        proposer="baseline" if is_baseline else "",
        verdict=verdict,
        reason=row.status if is_word else "",
        setup=setup,
        trials=(Trial(result, setup=setup, started_at="", event=""),),
    )
