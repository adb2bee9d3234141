"""Proposals on their way into the record: asking, storing, rebasing, and edits made by hand."""

import contextlib
import math
import time
from collections.abc import Mapping
from typing import Any

from autoresearch.config import Config
from autoresearch.decision.belief import measure_noise
from autoresearch.decision.plateau import is_plateau
from autoresearch.events import Abandoned, Alerted, Spent, now
from autoresearch.paths import home
from autoresearch.proposer.base import (
    CancelledError,
    Context,
    EditFailedError,
    ProposerUnavailableError,
)
from autoresearch.proposer.edits import changed_constants, describe, long_literals
from autoresearch.proposer.prompt import PROGRAM_CUT
from autoresearch.record.commits import carry
from autoresearch.record.fold import make
from autoresearch.record.git import RefUpdate
from autoresearch.record.record import Record
from autoresearch.record.refs import hand_ref
from autoresearch.record.sessions import past
from autoresearch.record.worktree import HandEdit
from autoresearch.session.context import Parts, StopSeenError, next_number
from autoresearch.tasks.task import contract_of
from autoresearch.types import Decision, Experiment, Proposal, Verdict
from autoresearch.util.killpoints import reach

_LENGTH = "length of program.md"
NO_IDEAS = "ideas"
"""Key of the alert that no proposer has one."""


class Ideas:
    """Gets proposals and stores each before anything is done with it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._record = parts.record
        self._config = parts.config
        self._silent_until = -math.inf

    @property
    def is_silent(self) -> bool:
        """Whether the proposer said that it has nothing for now; then it is not asked ahead."""
        return time.monotonic() < self._silent_until

    def propose(self) -> None:
        """Wait for the next proposal and store it."""
        self._parts.phase("propose")
        began = time.monotonic()
        self.ask()
        while not self.collect(timeout=0.2):
            self._parts.stop.check()
            self._parts.tell_alerts()
        self._parts.stop.clock.add("propose", time.monotonic() - began)

    def ask(self) -> None:
        """Ask for a proposal unless one is being prepared already."""
        if self._parts.ahead.is_busy:
            return
        self._parts.ahead.request(self._context())

    def collect(self, timeout: float = 0.0) -> bool:
        """Store what the proposer has ready; False if there is nothing yet.

        Raises:
            ProposerUnavailableError: nothing can be had now.
        """
        try:
            proposal = self._parts.ahead.take(timeout)
        except EditFailedError as exc:
            number = self.store(exc.proposal)
            decision = Decision("discard", exc.reason, explanation=exc.message)
            self._record.judge(number, Verdict.DISCARD, exc.reason, decision, self._parts.setup.key)
            return True
        except (ProposerUnavailableError, CancelledError) as exc:
            if exc.usage.num_calls:
                self._record.append(Spent(usage=exc.usage, reason=exc.message))
            if isinstance(exc, ProposerUnavailableError):
                pause = math.inf if exc.retry_seconds is None else exc.retry_seconds
                self._silent_until = time.monotonic() + pause
                raise
            self._parts.stop.check()
            return False
        if proposal is None:
            return False
        self._silent_until = -math.inf
        self._record.tell(NO_IDEAS, "there are ideas again", is_over=True)
        is_cut = PROGRAM_CUT.encode() in proposal.attachments.get("prompt.md", b"")
        text = f"program.md is {'too long: a prompt holds its beginning only' if is_cut else 'read whole'}"
        self._record.tell(_LENGTH, text, "autoresearch run --dry-run", is_over=not is_cut)
        self.store(proposal)
        return True

    def keep_last_answer(self) -> None:
        """Store a proposal that came while the session ended: it was paid for."""
        with contextlib.suppress(ProposerUnavailableError, StopSeenError):
            self.collect()

    def store(self, proposal: Proposal, number: int | None = None) -> int:
        """Record a proposal under its number, before anything is done with it."""
        if number is None:
            number = next_number(self._record.session())
        self._record.propose(proposal, number, self._program())
        reach("proposal_stored")
        if found := long_literals(self._record.texts(proposal.parent), proposal.files):
            text = f"#{number} brings data in its code: {'; '.join(found[:5])}; is it what it should be?"
            self._record.alert(text, f"autoresearch diff {number}")
        return number

    def rebase(self, experiment: Experiment, onto: str) -> bool:
        """Carry a proposal over to a tip that moved; False if it does not fit any more."""
        texts = self._record.texts(experiment.commit)
        files = carry(self._record.repository, texts, experiment.parent, onto)
        if files is None:
            self._record.append(Abandoned(number=experiment.number, reason="rebase_conflict"))
            return False
        if files == self._record.texts(onto):
            self._record.append(Abandoned(number=experiment.number, reason="duplicate"))
            return False
        self._record.rebase(experiment.number, files, onto)
        return True

    def take_hand_edit(self) -> bool:
        """Store the user's edit of the working tree, if there is one that can be tried."""
        return take_hand_edit(self._record, self._program())

    def _program(self) -> bytes:
        program = self._record.run_directory.program
        return program.read_bytes() if program.is_file() else b""

    def _context(self) -> Context:
        session = self._record.session()
        return context_of(
            self._record,
            self._config,
            hardware=self._parts.hardware,
            program=self._program().decode("utf-8", "replace"),
            seconds_left=self._parts.stop.seconds_left(session),
            cost_left=self._parts.stop.cost_left(session),
        )


def context_of(
    record: Record,
    config: Config,
    *,
    hardware: Mapping[str, Any],
    program: str,
    seconds_left: float | None = None,
    cost_left: float | None = None,
) -> Context:
    """Return everything the next proposer may know, read from the record now."""
    session = record.session()
    tip = record.tip()
    recent = [e for e in session.experiments if e.trials][-5:]
    best = [e for e in session.experiments if e.trials and e.number == session.best]
    return Context(
        session=session,
        number=next_number(session),
        parent=tip,
        files=record.texts(tip),
        program=program,
        contract=contract_of(record.run_directory, config),
        max_lines=config.task.max_lines,
        max_bytes=config.task.max_bytes,
        budget_seconds=config.trial.budget_seconds,
        startup_seconds=config.trial.startup_seconds,
        noise=measure_noise(session).sd if session.setup and session.experiments else None,
        hardware=hardware,
        seconds_left=seconds_left,
        cost_left_usd=cost_left,
        in_flight=tuple(
            make(Proposal, vars(e), files=record.texts(e.commit)) for e in session.open if e.commit
        ),
        tried={e.identity: e.number for e in session.experiments if e.identity},
        is_stalled=is_plateau(session),
        past=past(record),
        curves={e.number: record.curve(e.trials[0].event) for e in [*recent, *best]},
        log_tails={
            e.number: without_home(record.log_tail(e.trials[-1].event))
            for e in recent
            if e.verdict is Verdict.CRASH
        },
    )


def without_home(text: str) -> str:
    """Return a text with `~` for the user's home: tracebacks name the run directory, and with it the user."""
    folder = str(home())
    return text if folder == "/" else text.replace(folder, "~")


SETTLED_SECONDS = 60.0
"""An edit becomes an experiment once it is unchanged for this long."""
HAND_EDIT = "hand edit"
_BASELINE = "baseline"


def take_hand_edit(record: Record, program: bytes) -> bool:
    """Store the user's edit of the working tree as the next experiment, or report why it cannot be one.

    Returns:
        Whether an experiment was stored.
    """
    with record.writing():
        tip = record.branch_tip()
        worktree = record.worktree
        edit = worktree.hand_edit(record.editable(), tip, SETTLED_SECONDS) if tip else None
        if tip is None or edit is None:
            if tip is not None and worktree.holds(record.editable(), tip):
                record.tell(HAND_EDIT, "edit conflict resolved", is_over=True)
            return False
        kept = worktree.store_hand_edit(edit, now())
        move = RefUpdate(hand_ref(record.tag), kept, worktree.taken() or "")
        files = carry(record.repository, edit.files, edit.base, tip)
        if files is None:
            record.append(_collision(edit, kept), commit=kept, moves=[move])
            return False
        before = record.texts(tip)
        after = {**before, **files}
        if after == before:  # it was kept already, from another proposer
            record.repository.update_refs([move], "hand edit")
            record.tell(HAND_EDIT, "edit conflict resolved", is_over=True)
            return False
        proposal = Proposal(
            description=f"hand edit: {describe(before, after)}",
            files=files,
            parent=tip,
            proposer="human",
            parameters=changed_constants(before, after),
        )
        record.propose(proposal, next_number(record.session()), program, moves=[move])
    reach("proposal_stored")
    record.tell(HAND_EDIT, "edit conflict resolved", is_over=True)
    return True


def take_baseline(record: Record) -> None:
    """Commit the editable files as they are in the folder: while nothing is measured, they are the baseline."""
    with record.writing():
        tip = record.branch_tip()
        edit = record.worktree.hand_edit(record.editable(), tip, 0.0) if tip else None
        if tip is None or edit is None:
            return
        commit = record.worktree.commit(edit.files, tip, now())
    names = " and ".join(f"`{path}`" for path in edit.files)
    text = f"nothing is measured yet, so {names} as it is in the folder is the baseline: committed as {commit[:7]}"
    record.append(Alerted(text=text, about=_BASELINE, is_over=True))


def _collision(edit: HandEdit, kept: str) -> Alerted:
    names = ", ".join(f"`{path}`" for path in edit.files)
    return Alerted(
        text=f"your edit of {names} collides with what was kept meanwhile and was not tried; it is"
        f" safe in commit {kept[:12]}. To try it, take the branch's file with"
        f" `git checkout HEAD -- {' '.join(edit.files)}` and put it in again",
        command=f"git diff {edit.base[:12]} {kept[:12]}",
        about=HAND_EDIT,
    )
