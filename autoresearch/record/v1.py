"""Records of schema 1, in which every score was the bits per byte of a language model: their events as of schema 2."""

from dataclasses import asdict
from typing import Any

from autoresearch.types import Metric

METRIC = Metric("val_bpb", "bits per byte", "minimize", 6, "counting tokens alone")
"""Of every record of schema 1, and of results.tsv as others write it."""
_NAMES = {
    "session_started": {"unigram_bpb": "trivial_score"},
    "trial": {"bpb": "score", "claimed_bpb": "claimed_score", "audit_se": "score_se"},
    "confirmed": {"reference_bpb": "reference_score", "candidate_bpb": "candidate_score"},
}
_INSIDE = {"trial": "result", "confirmed": "confirmation"}
"""Where an event holds them, if not at its top."""


def upgrade(event: dict[str, Any]) -> None:
    """Give an event of schema 1 the names of schema 2, in place."""
    kind = event["type"]
    values = event[_INSIDE[kind]] if kind in _INSIDE else event
    for old, new in _NAMES.get(kind, {}).items():
        if old in values:
            values[new] = values.pop(old)
    extra = values.get("extra", {}) if kind == "trial" else {}
    if "unseen_bpb" in extra:
        extra["unseen_score"] = extra.pop("unseen_bpb")
    if kind == "session_started":
        event["metric"] = asdict(METRIC)
