"""How `autoresearch doctor` looks: one line a finding, the hint under it."""

from rich.text import Text

from autoresearch.bootstrap.doctor import Finding
from autoresearch.ui.text import clean

_WORDS = {"ok": "ok", "warn": "warn", "fail": "FAIL", "skip": "-"}
_STYLES = {"ok": "good", "warn": "warning", "fail": "error", "skip": "muted"}
WIDTH = 18
"""Cells of the name column."""


def render(finding: Finding) -> Text:
    """Return `ok    torch   2.13.0, CPU build`, with `hint: ...` below where there is one."""
    text = Text()
    text.append(f"{_WORDS[finding.status]:<5} ", style=_STYLES[finding.status])
    text.append(f"{finding.name:<{WIDTH}} ")
    text.append(clean(finding.text))
    if finding.hint:
        text.append(f"\n{'':<{WIDTH + 7}}")
        text.append("hint: ", style="hint").append(clean(finding.hint))
    return text


def summary(findings: list[Finding]) -> str:
    """Return the last line: what is missing, what could be better."""
    failed = [f.name for f in findings if f.status == "fail"]
    warned = [f.name for f in findings if f.status == "warn"]
    if failed:
        return f"missing: {', '.join(failed)}"
    if warned:
        return f"a session can run; could be better: {', '.join(warned)}"
    return "a session can run"
