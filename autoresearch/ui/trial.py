"""Prints the result of one trial that is not part of a session."""

from dataclasses import fields

from autoresearch.types import TrialResult
from autoresearch.ui.console import OutputMode
from autoresearch.ui.format import clean


def print_trial(mode: OutputMode, result: TrialResult) -> None:
    """Print val_bpb and the figures of a trial, or why it has none.

    stdout carries `key: value` lines (`--json`: one object), stderr the end of the output of a crash.
    """
    skipped = {"curve", "log_tail", "extra"}
    values = {f.name: getattr(result, f.name) for f in fields(TrialResult) if f.name not in skipped}
    values = {name: value for name, value in values.items() if value not in (None, "")}
    if mode.is_json:
        mode.json({**values, "outcome": str(result.outcome)})
        return
    if result.ok and mode.is_quiet:
        mode.data(f"{result.bpb:.6f}")
        return
    if not result.ok and result.log_tail:
        mode.say(clean(result.log_tail, lines=True))
    label = "val_bpb" if result.split == "validation" else "test_bpb"
    for name, value in values.items():
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        if name in ("bpb", "claimed_bpb", "audit_se") and isinstance(value, float):
            shown = f"{value:.6f}"
        mode.data(f"{label if name == 'bpb' else name}: {clean(shown)}")
