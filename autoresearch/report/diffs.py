"""A diff as lines of known kinds, for the page and for Markdown."""

from autoresearch.report.content import DiffLine
from autoresearch.ui import text as f
from autoresearch.ui.pages.diffs import stats

MAX_DIFF_LINES = 400


def diff_lines(diff: str) -> tuple[DiffLine, ...]:
    """Return the lines of a diff with their kinds, cut after `MAX_DIFF_LINES`."""
    kinds = (
        (("diff ", "index ", "--- ", "+++ ", "new file", "deleted file"), "heading"),
        (("@@",), "place"),
        (("+",), "added"),
        (("-",), "removed"),
    )
    lines = f.clean(diff, lines=True).rstrip("\n").split("\n") if diff else []
    found = [
        DiffLine(line[:1000], next((kind for starts, kind in kinds if line.startswith(starts)), ""))
        for line in lines[:MAX_DIFF_LINES]
    ]
    if len(lines) > MAX_DIFF_LINES:
        found.append(DiffLine(f"... {len(lines) - MAX_DIFF_LINES} more lines", "heading"))
    return tuple(found)


def net_stat(diff: str) -> str:
    """Return `+3 -1 lines in train.py`."""
    files = stats(diff)
    if not files:
        return ""
    added, removed = sum(x.added for x in files), sum(x.removed for x in files)
    return f"+{added} -{removed} lines in {', '.join(f.clean(x.path) for x in files)}"
