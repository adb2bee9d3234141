"""One run of a session from the command line: lock, setup check, loop, confirmation, end."""

import contextlib
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoresearch import __version__
from autoresearch.bootstrap import flat
from autoresearch.config import Config, Loaded
from autoresearch.errors import PrerequisiteError
from autoresearch.events import Alerted, Event, Phase, Progress, SessionStarted
from autoresearch.paths import RunDirectory
from autoresearch.record.branches import check_editable
from autoresearch.rundir import control
from autoresearch.session.build import Lab, check_setup, lock_device, recall
from autoresearch.session.context import Emit, Limits, Stop
from autoresearch.session.proposals import HAND_EDIT
from autoresearch.session.signals import is_on_battery, kept_awake
from autoresearch.types import Session, Setup, Verdict
from autoresearch.util.files import read_file
from autoresearch.util.killpoints import reach

if TYPE_CHECKING:
    from autoresearch.proposer.prompt import Preview
    from autoresearch.record.record import Record


@dataclass(frozen=True)
class RunOptions:
    """Options of one `run`."""

    limits: Limits
    is_rebaseline: bool = False
    is_confirming: bool = True
    is_waiting_for_gpu: bool = False
    """Wait until no other process uses the GPU, rather than only say so."""
    flags: Sequence[str] = ()
    """As `types.Run.flags`."""


def run_session(
    lab: Lab,
    record: "Record",
    options: RunOptions,
    *,
    emit: Emit,
    stop: threading.Event,
) -> str:
    """Start or resume a session and run it to the first limit.

    Returns:
        The reason it ended, as in `SessionEnded.reason`.

    Raises:
        PrerequisiteError: the setup changed and `is_rebaseline` is not set, the directory or the GPU
            is in use, the proposer cannot work.
        WorkError: the code at the tip of the branch does not run.
    """
    from autoresearch.decision.confirmation import (
        MIN_PAIRS,
        affordable_pairs,
        confirmation_reserve_seconds,
    )
    from autoresearch.proposer.base import ProposerUnavailableError
    from autoresearch.proposer.prefetch import Ahead
    from autoresearch.proposer.registry import check_cap, make_proposer
    from autoresearch.session.confirm import run_confirmation
    from autoresearch.session.context import Clock, Parts, trial_seconds
    from autoresearch.session.loop import Loop
    from autoresearch.ui.pages.log import quiet_line
    from autoresearch.ui.summary import summarize

    config = lab.config
    emit = _one_at_a_time(emit)
    with record.presence.lock(), lock_device(lab.hardware, lab.run_directory), kept_awake():
        session = record.session()
        check_setup(session, lab, is_rebaseline=options.is_rebaseline)
        tip = record.tip()
        check_editable(record.repository, record.tag, config.task.editable)
        _check_imports(record, config.task.editable)
        faults = list(record.worktree.faults(config.task.editable, tip))
        is_begun = any(e.verdict is Verdict.KEEP for e in session.experiments)
        for fault in () if is_begun else faults:
            if fault.is_broken:  # it would be the baseline
                way = f", or set it aside with `{fault.command}`" if fault.command else ""
                raise PrerequisiteError(fault.text, hint=f"correct it{way}", kind="record")
        lab = recall(lab, session)
        check_cap(config)
        alerts: queue.SimpleQueue[Alerted] = queue.SimpleQueue()
        proposer = make_proposer(
            config,
            sandbox=lab.sandbox,
            scratch=lab.run_directory.state / "agents",
            notify=alerts.put,
        )
        if proposer.kind != "search":
            emit(Phase(name="wait", detail=f"for a first answer of {proposer.name}"))
        try:
            proposer.check()
        except ProposerUnavailableError as exc:
            # An outage is reported and waited out as during a session: a killed lab must come back in it.
            has_answered = any(e.proposer == "llm" for e in session.experiments)
            if exc.is_not_started and not has_answered and not config.proposer.fallback_models:
                raise PrerequisiteError(exc.message, hint=exc.hint, kind="proposer") from exc
        record.listen(emit)
        record.presence.line = lambda: quiet_line(record.session(), summarize(record.session()))
        event = started_event(
            lab, record, options, first_counted(record, session), session.wall_seconds
        )
        record.append(event, commit=record.tip())
        _end_old_news(record)
        emit(Phase(name="plan", detail=_plan(lab, record, session, options)))
        reach("session_started")
        _look_around(record, options, emit, stop)
        _look_at_program(record, config)
        if faults:
            text = "; ".join(fault.text for fault in faults)
            record.append(Alerted(text=text, command=faults[0].command, about="the files here"))

        clock = Clock()

        def confirm(session: Session) -> object:
            due = due_confirmation(session, config, lab.setup)
            if due is None:
                return None
            reference, candidate = due
            left = options.limits.seconds_left(clock.elapsed)
            usual = trial_seconds(session, config.trial.budget_seconds)
            if affordable_pairs(left, usual, MIN_PAIRS) < MIN_PAIRS:
                return None
            began = clock.elapsed
            try:
                return run_confirmation(
                    record,
                    lab.executor,
                    session,
                    config,
                    reference=reference,
                    candidate=candidate,
                    num_trials=config.session.confirm_trials,
                    kind="session",
                    max_seconds=left,
                    stop=stop,
                    emit=emit,
                )
            finally:
                clock.add("confirm", clock.elapsed - began)

        def reserve(session: Session) -> float:
            if not options.is_confirming or due_confirmation(session, config, lab.setup) is None:
                return 0.0
            usual = trial_seconds(session, config.trial.budget_seconds)
            return confirmation_reserve_seconds(config.session, usual, options.limits.seconds)

        loop = Loop(
            Parts(
                config=config,
                record=record,
                executor=lab.executor,
                ahead=Ahead(proposer, proposals_ahead(lab)),
                setup=lab.setup,
                hardware=lab.hardware.to_json(),
                emit=emit,
                stop=Stop(
                    lab.run_directory,
                    stop,
                    options.limits,
                    event.limits["first_number"],
                    reserve,
                    clock,
                ),
                confirm=confirm if options.is_confirming else None,
                alerts=alerts,
                keep_caches=lab.executor.keep_caches,
            )
        )
        return loop.run()


def _plan(lab: Lab, record: "Record", session: Session, options: RunOptions) -> str:
    """Return what this run will do and cost, as `plan.plan` says it."""
    from datetime import datetime

    from autoresearch.proposer.registry import kinds_of
    from autoresearch.session.plan import plan

    first_call = None
    if "llm" in kinds_of(lab.config.proposer) and not session.usage.cost_usd:
        with contextlib.suppress(Exception):  # an estimate that cannot be made ends no night
            preview = preview_next(lab.run_directory, lab.loaded, record, options.limits)
            first_call = preview.most_usd
    return plan(
        session,
        lab.config,
        options.limits,
        is_confirming=options.is_confirming,
        is_measured=any(e.setup == lab.setup.key and e.score for e in session.experiments),
        first_call_usd=first_call,
        now=datetime.now().astimezone(),
    )


def _one_at_a_time(emit: Emit) -> Emit:
    """Return `emit` for use by several threads."""
    lock = threading.Lock()

    def emit_alone(event: Event | Progress | Phase) -> None:
        with lock:
            emit(event)

    return emit_alone


def _end_old_news(record: "Record") -> None:
    """End the alerts of earlier runs whose key says that this one looks again: at a provider, a remote, the machine.

    What raised them is gone and can end none of them; what is still so is reported again when it is met.
    """
    for about in dict.fromkeys(alert.about for alert in record.session().alerts):
        if about not in ("", HAND_EDIT):
            record.tell(about, f"{about}: this run looks again", is_over=True)


def _look_around(
    record: "Record",
    options: RunOptions,
    emit: Emit,
    stop: threading.Event,
) -> None:
    """Say, or wait out, what would disturb the night: a GPU in use, a battery."""
    from autoresearch.machine.hardware import gpu_processes

    if is_on_battery():
        record.alert("the machine runs on its battery", about="battery")
    others = gpu_processes()
    if others and not options.is_waiting_for_gpu:
        names = ", ".join(f"{p.name} ({p.pid})" for p in others)
        text = f"other processes use the GPU: {names}"
        record.alert(text, "autoresearch run --wait-gpu", about="use of the GPU")
    elif others:
        emit(Phase(name="wait", detail="for the GPU"))
        while others and not stop.wait(control.LOOK_SECONDS):
            Stop(record.run_directory, stop).wait_while_paused()
            others = gpu_processes()


def _check_imports(record: "Record", editable: Sequence[str]) -> None:
    files, root = record.repository.files_at(record.tip()), record.run_directory.root
    codes = [files.get(editable[0])]
    if record.worktree.is_on_branch:  # what is not committed may become the baseline
        codes.append(read_file(root / editable[0]))
    for code in codes:
        flat.check(code, {**dict.fromkeys(editable), **files}, root, editable[0])


def _look_at_program(record: "Record", config: Config) -> None:
    """Say which lines of program.md tell an agent to do what the lab does; an LLM that answers in text cannot."""
    from autoresearch.proposer.prompt import misfits
    from autoresearch.proposer.registry import kinds_of

    program = record.run_directory.program
    if "command" not in kinds_of(config.proposer) or not program.is_file():
        return
    if lines := [number for number, _ in misfits(program.read_text("utf-8", "replace"))]:
        shown = ", ".join(map(str, lines[:12])) + (", ..." if len(lines) > 12 else "")
        text = (
            f"program.md tells the agent to do what the lab does itself (lines {shown}): drop that"
        )
        record.append(Alerted(text=text, about="program.md", is_over=True))


def preview_next(
    run_directory: RunDirectory, loaded: Loaded, record: "Record", limits: Limits
) -> "Preview":
    """Return what the proposer would be asked next in a run with these limits; spends and writes nothing."""
    from autoresearch.machine.hardware import describe
    from autoresearch.proposer.registry import make_proposer
    from autoresearch.session.proposals import context_of

    program = run_directory.program
    context = context_of(
        record,
        loaded.config,
        hardware=describe(loaded.config.trial.device).to_json(),
        program=program.read_text("utf-8", "replace") if program.is_file() else "",
        seconds_left=limits.seconds_left(0.0),
        cost_left=limits.cost_left(record.session().usage.cost_usd or 0.0),
    )
    return make_proposer(loaded.config).preview(context)


def proposals_ahead(lab: Lab) -> int:
    """Return how many proposals to prepare while a trial runs.

    On a CPU-only machine, or with a local model that shares the GPU, proposing would disturb the
    measurement, so nothing runs ahead unless the configuration asks for it.
    """
    from autoresearch.proposer.registry import KINDS, kinds_of

    proposer = lab.config.proposer
    if proposer.ahead >= 0:
        return proposer.ahead
    is_shared = any(KINDS[kind].shares_device(proposer) for kind in kinds_of(proposer))
    return 0 if lab.hardware.kind == "cpu" or is_shared else 1


def due_confirmation(session: Session, config: Config, setup: Setup) -> tuple[int, int] | None:
    """Return reference and candidate of the confirmation a session ends with, None if none is due.

    The reference is the first experiment measured under the present setup. What was confirmed by as many trials
    already, before a kill or by an earlier run, is not confirmed again.
    """
    num_trials = config.session.confirm_trials
    if not num_trials or session.best == 0:
        return None
    measured = [e.number for e in session.experiments if e.setup == setup.key and e.score]
    reference = min(measured, default=0)
    is_done = any(
        c.kind == "session"
        and (c.reference, c.candidate, c.setup) == (reference, session.best, setup.key)
        and (c.num_trials >= num_trials or not c.low <= 0 <= c.high)
        for c in session.confirmations
    )
    return None if is_done or reference == session.best else (reference, session.best)


def first_counted(record: "Record", session: Session) -> int:
    """Return the number from which experiments count against `--experiments`.

    A run that was killed is continued: what it had proposed still counts. What an earlier run proposed and left
    untried counts as this one's.
    """
    if record.is_cut and "first_number" in session.limits:
        return int(session.limits["first_number"])
    waiting = min((e.number for e in session.open if e.number), default=None)
    return waiting or max((e.number for e in session.experiments), default=0) + 1


def started_event(
    lab: Lab,
    record: "Record",
    options: RunOptions,
    first_number: int,
    seconds_before: float = 0.0,
) -> SessionStarted:
    """Return the event that says under which conditions this run began."""
    from autoresearch.proposer.registry import asks_model, kinds_of

    config = lab.config
    changed = lab.loaded.changed()
    if notify := changed.get("session.notify"):
        # topics and addresses in it are as good as passwords
        changed["session.notify"] = [notify[0], "..."]
    return SessionStarted(
        tag=record.tag,
        tip=record.tip(),
        setup=dict(vars(lab.setup)),
        seed=config.session.seed,
        proposer=" and ".join(kinds_of(config.proposer)),
        model=config.proposer.model if asks_model(config.proposer) else "",
        sandbox=lab.sandbox.name,
        is_unsafe=lab.is_unsafe,
        metric=lab.metric,
        hardware=lab.hardware.to_json(),
        **lab.task.facts,
        config=changed,
        versions=versions(),
        limits={
            **vars(options.limits),
            "first_number": first_number,
            "seconds_before": round(seconds_before, 1),
        },
        flags=list(options.flags),
        is_rebaseline=options.is_rebaseline,
    )


def versions() -> dict[str, str]:
    """Return the versions that can change a number, by package."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"autoresearch": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "triton"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
