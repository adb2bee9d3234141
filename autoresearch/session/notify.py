"""The user's `notify` command: the sentence it is given, and the numbers in its environment."""

import os
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from autoresearch.decision.scores import comparable, find
from autoresearch.types import Experiment, Session
from autoresearch.ui import text as f
from autoresearch.ui.pages.overview import STOP_WORDS
from autoresearch.ui.summary import summarize

Event = Literal["keep", "held", "pause", "wait", "end"]


def notify(command: Sequence[str], event: Event, what: str, session: Session, root: Path) -> None:
    """Start the command in the run directory, with what happened as its last argument; never wait for it.

    Its environment has AUTORESEARCH_EVENT, _FOLDER, _TAG and, of the best experiment, _EXPERIMENT, _METRIC, _SCORE,
    _DELTA
    (against the incumbent it replaced when it was just kept, else against the baseline) and _P_REAL, where known.

    Raises:
        OSError: the command cannot be started.
    """
    best, baseline = find(session, session.best), find(session, 0)
    values: dict[str, object] = {"EVENT": event, "FOLDER": root, "TAG": session.tag}
    if best is not None:
        values |= {
            "EXPERIMENT": best.number,
            "METRIC": session.metric.name,
            "SCORE": best.score,
            "P_REAL": best.p_real,
        }
        kept = best.decision.delta if event == "keep" and best.decision else None
        values["DELTA"] = kept if kept is not None else _since(baseline, best, session)
    known = {f"AUTORESEARCH_{name}": str(v) for name, v in values.items() if v is not None}
    process = subprocess.Popen(
        [*command, f.clean(f"{root.name} {session.tag}: {what}")],
        cwd=root,
        env={**os.environ, **known},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    threading.Thread(target=process.wait, daemon=True).start()


def kept(experiment: Experiment) -> str:
    """Return the sentence on a new keep."""
    decision = experiment.decision
    digits = f.decimals(decision.noise if decision else None)
    delta = f.delta(decision.delta if decision else None, digits)
    numbers = f"{f.score(experiment.score, digits)} {delta}, P {f.probability(experiment.p_real)}"
    return f"kept #{experiment.number}, {numbers}: {experiment.description}"


def ended(session: Session, reason: str, detail: str) -> str:
    """Return the sentence on the end of a run: the verdict, the best, and why it ended."""
    summary = summarize(session)
    best = ""
    if summary.best is not None:
        best = f"; best #{summary.best.number}, {f.score(summary.best_score, summary.digits)}"
    return f"{summary.conclusion}{best}; ended, {detail or STOP_WORDS.get(reason, reason)}"


def _since(baseline: Experiment | None, best: Experiment, session: Session) -> float | None:
    pair = comparable(baseline, best, session) if baseline and best.number else None
    return pair[1] - pair[0] if pair else None
