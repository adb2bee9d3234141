"""Runs a confirmation: two experiments on fresh seeds, interleaved, on a split nothing was selected on.

What to run and what it means is planned and computed in `lab/confirmation.py`. Trials that are recorded already
are not run again, so a confirmation that was cut goes on.
"""

import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from autoresearch.config import Config
from autoresearch.events import Confirmed, Event, Phase, Progress, now
from autoresearch.lab.confirmation import confirm, confirm_plan, paired
from autoresearch.lab.faults import reach
from autoresearch.lab.parts import Executor
from autoresearch.types import (
    Confirmation,
    Experiment,
    Outcome,
    Session,
    Split,
    TrialResult,
    TrialSpec,
)

if TYPE_CHECKING:
    from autoresearch.lab.record import Record


def run_confirmation(
    record: "Record",
    executor: Executor,
    session: Session,
    config: Config,
    *,
    reference: int,
    candidate: int,
    num_trials: int,
    setup: str,
    stop: threading.Event,
    emit: Callable[[Event | Progress | Phase], None],
    kind: str = "session",
    split: Split = "test",
    budget_seconds: float | None = None,
) -> Confirmation | None:
    """Run what is missing of a confirmation, store and return it.

    Args:
        record: Where trials and outcome go.
        executor: Runs the trials.
        session: Seeds are derived from its seed.
        config: For the budget.
        reference: Experiment number compared against.
        candidate: Experiment number in question.
        num_trials: Of each side.
        setup: Key of the present setup.
        stop: Ends it early.
        emit: Told of phases and progress.
        kind: See `types.Confirmation`.
        split: Which text to score on.
        budget_seconds: Another budget than the session's.

    Returns:
        None when it was stopped, or too few trials had a score.
    """
    budget = budget_seconds or config.trial.budget_seconds
    done = len(session.confirmations)
    identity = f"{kind}:{reference}:{candidate}:{done}"
    sides = {
        "reference": session.experiment(reference),
        "candidate": session.experiment(candidate),
    }
    results: dict[str, list[TrialResult]] = {"reference": [], "candidate": []}
    first = done * 64  # Seeds no earlier confirmation used.
    for planned in confirm_plan(session.seed, num_trials, first=first):
        experiment = sides[planned.side]
        result = _recorded(experiment, identity, planned.seed)
        if result is None:
            if stop.is_set():
                return None
            emit(Phase(name="confirm", detail=planned.side, number=experiment.number))
            spec = TrialSpec(
                files=record.files(experiment.commit),
                seed=planned.seed,
                budget_seconds=budget,
                split=split,
                audit=True,
                label=f"{session.tag}/confirm-{experiment.number}-{planned.index}",
            )
            started_at = now()
            result = executor.run(spec, on_progress=_told(emit, experiment.number), stop=stop)
            if result.outcome is Outcome.TAINTED:
                return None
            record.record_trial(
                experiment.number,
                result,
                setup=setup,
                started_at=started_at,
                confirmation=identity,
            )
        results[planned.side].append(result)
    if len(paired(results["reference"], results["candidate"])) < 2:
        record.alert(f"#{candidate} could not be confirmed: too few trials had a score")
        return None
    found = confirm(
        results["reference"],
        results["candidate"],
        reference=reference,
        candidate=candidate,
        setup=setup,
        at=now(),
        budget_seconds=budget,
        kind=kind,
    )
    record.append(Confirmed(confirmation=asdict(found)))
    reach("confirmed")
    return found


def _recorded(experiment: Experiment, identity: str, seed: int) -> TrialResult | None:
    for trial in experiment.trials:
        if trial.confirmation == identity and trial.result.seed == seed:
            return trial.result
    return None


def _told(
    emit: Callable[[Event | Progress | Phase], None], number: int
) -> Callable[[Progress], None]:
    return lambda progress: emit(replace(progress, number=number))
