"""What makes the numbers of this run comparable with those the session has: its setup."""

from dataclasses import replace
from typing import TYPE_CHECKING

from autoresearch.errors import PrerequisiteError
from autoresearch.types import Session

if TYPE_CHECKING:
    from autoresearch.session.build import Lab


def check_setup(session: Session, lab: "Lab", *, is_rebaseline: bool) -> None:
    """Refuse to go on where numbers would not be comparable.

    Raises:
        PrerequisiteError: names each difference.
    """
    if session.setup is None or is_rebaseline or session.setup.key == lab.setup.key:
        return
    differences = "; ".join(session.setup.differences(lab.setup))
    raise PrerequisiteError(
        f"session `{session.tag}` was measured under another setup: {differences}",
        hint="go on with `autoresearch run --rebaseline`, which measures the best anew, or begin"
        " another session: `autoresearch init . --tag NAME`, then `autoresearch run`",
        kind="setup_changed",
    )


def recall(lab: "Lab", session: Session) -> "Lab":
    """Give the executor what an earlier run measured and chose under this setup."""
    executor = lab.executor
    results = [
        t.result
        for e in session.experiments
        for t in e.trials
        if e.proposer == "baseline" and t.setup == lab.setup.key and t.result.ok
    ]
    for result in results:
        if executor.submit_seconds is None:
            executor.submit_seconds = result.submit_seconds
        if executor.tolerance is None and "tolerance" in result.extra:
            executor.tolerance = float(result.extra["tolerance"])
            executor.noise_nats = float(result.extra.get("difference_sd", 0.0))
    chosen = session.setups.get(lab.setup.key)
    if chosen is None or not chosen.attention or chosen.attention == lab.setup.attention:
        return lab
    executor.use_attention(chosen.attention)
    return replace(lab, setup=replace(lab.setup, attention=chosen.attention))
