"""Unified diffs for people: colour, `--stat`, changed words."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from rich.text import Text

from autoresearch.decision.scores import comparable
from autoresearch.events import SCHEMA
from autoresearch.types import Experiment, Session
from autoresearch.ui import text as f
from autoresearch.ui.console import styled
from autoresearch.ui.text import clean

MAX_BAR = 40


@dataclass(frozen=True)
class FileStat:
    """Lines added to and removed from one file."""

    path: str
    added: int
    removed: int


def stats(diff: str) -> list[FileStat]:
    """Return added and removed lines of each file of a unified diff."""
    found: list[FileStat] = []
    path, added, removed, is_open, left = "", 0, 0, False, (0, 0)

    def close() -> None:
        if is_open:
            found.append(FileStat(path, added, removed))

    for line in diff.split("\n"):
        old, new = left
        if old > 0 or new > 0:
            added += line.startswith("+")
            removed += line.startswith("-")
            left = (old - (line[:1] in {"-", " ", ""}), new - (line[:1] in {"+", " ", ""}))
            if line.startswith("\\"):
                left = (old, new)
        elif line.startswith("--- "):
            close()
            path, added, removed, is_open = _path(line[4:]), 0, 0, True
        elif line.startswith("+++ "):
            new_path = _path(line[4:])
            path = new_path if new_path != "/dev/null" else path
        elif line.startswith("@@"):
            left = _hunk(line)
    close()
    return found


def _path(text: str) -> str:
    text = text.split("\t", maxsplit=1)[0].strip().strip('"')
    return text[2:] if text[:2] in {"a/", "b/"} else text


def _hunk(line: str) -> tuple[int, int]:
    match = re.match(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@", line)
    if match is None:
        return (0, 0)
    return tuple(int(g) if g is not None else 1 for g in match.groups())  # type: ignore[return-value]


def stat_lines(diff: str) -> list[Text]:
    """Return `path | 12 ++++----` for each file and a line with the totals."""
    files = stats(diff)
    if not files:
        return [styled("no difference", "muted")]
    longest = max(len(clean(s.path)) for s in files)
    most = max(s.added + s.removed for s in files)
    scale = min(1.0, MAX_BAR / most) if most else 1.0
    lines = []
    for s in files:
        line = Text(f" {clean(s.path):<{longest}} | {s.added + s.removed:>4} ")
        line.append("+" * max(round(s.added * scale), bool(s.added)), style="added")
        line.append("-" * max(round(s.removed * scale), bool(s.removed)), style="removed")
        lines.append(line)
    added, removed = sum(s.added for s in files), sum(s.removed for s in files)
    word = "file" if len(files) == 1 else "files"
    lines.append(Text(f" {len(files)} {word} changed, +{added} -{removed} lines"))
    return lines


def colored(diff: str) -> list[Text]:
    """Return the lines of a diff with styles; the text is unchanged but for control characters."""
    lines = []
    for raw in diff.rstrip("\n").split("\n") if diff else []:
        line = clean(raw, lines=True)
        lines.append(styled(line, kind_of(raw)))
    return lines


def kind_of(line: str) -> str:
    """Return what a line of a diff is, which is also its style: `added`, `removed`, `place`, `heading` or nothing."""
    if line.startswith(("diff ", "index ", "--- ", "+++ ", "new file", "deleted file")):
        return "heading"
    if line.startswith("@@"):
        return "place"
    if line.startswith("+"):
        return "added"
    return "removed" if line.startswith("-") else ""


def words(diff: str) -> list[Text]:
    """Return the lines of git's word diff with styles: `[-old-]{+new+}`."""
    lines = []
    for raw in diff.rstrip("\n").split("\n") if diff else []:
        kind = kind_of(raw)
        line = styled(clean(raw, lines=True), kind if kind in {"heading", "place"} else "")
        line.highlight_regex(r"\[-.*?-\]", "removed")
        line.highlight_regex(r"\{\+.*?\+\}", "added")
        lines.append(line)
    return lines


def header(session: Session, a: Experiment, b: Experiment) -> Text:
    """Return both experiments with their scores and the difference, where that means something."""
    text = Text()
    for arrow, e in (("", a), (" -> ", b)):
        text.append(arrow, style="default").append(_name(e), style="heading")
        text.append(f" {f.score(e.score)}", style="default")
    pair = comparable(a, b, session)
    if pair is not None and a.number != b.number:
        value = pair[1] - pair[0]
        text.append(
            f"   {f.delta(value)}", style="good" if session.metric.sign * value < 0 else "warning"
        )
    elif pair is None and a.score is not None and b.score is not None:
        text.append("   not comparable: measured under different setups", style="warning")
    return text


def _name(e: Experiment) -> str:
    return "#0 baseline" if e.number == 0 else f"#{e.number} {e.commit[:7]}"


def to_json(session: Session, a: Experiment, b: Experiment, diff: str) -> dict[str, Any]:
    """Return both sides, the difference in score, lines by file and the diff."""

    def side(e: Experiment) -> dict[str, Any]:
        return {
            "name": f"#{e.number}",
            "number": e.number,
            "commit": e.commit,
            "score": e.score,
        }

    pair = comparable(a, b, session)
    return {
        "schema": SCHEMA,
        "a": side(a),
        "b": side(b),
        "delta": pair[1] - pair[0] if pair else None,
        "files": [asdict(s) for s in stats(diff)],
        "diff": diff,
    }
