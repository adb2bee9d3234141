"""The protocol of proposers: what a proposer is given and what it must answer."""

import random
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from autoresearch.errors import AutoresearchError
from autoresearch.events import Alerted
from autoresearch.proposer.llm.errors import PAUSE_SECONDS, wait_seconds
from autoresearch.types import Experiment, Proposal, Reason, Session, Usage
from autoresearch.util.text import one_line

if TYPE_CHECKING:
    from autoresearch.proposer.prompt import Preview

MAX_ROUNDS = 3
"""Rounds in which an answer that cannot be applied may be repaired."""
MAX_USELESS = 10
"""So many useless conversations in a row pause a proposer."""
_PAID_SECONDS = 20.0
"""For each call that was paid for nothing a proposer is left alone for so long at least."""
Notify = Callable[[Alerted], None]
"""Called with an alert for the user."""


def ignore_alert(_: Alerted) -> None:
    """Discard an alert."""


@dataclass(frozen=True)
class Context:
    """Everything a proposer may know, read from the record at the moment of asking."""

    session: Session
    number: int
    """Number the experiment will get."""
    parent: str
    """Sha of the incumbent's commit."""
    files: Mapping[str, str]
    """Editable path -> text at the incumbent."""
    program: str
    """program.md as it is now."""
    max_lines: int
    budget_seconds: float
    contract: str = ""
    """Rules of a task that is not `gpt`, with `files`, `budget` and `longest` in braces to fill in."""
    max_bytes: int = 128_000
    startup_seconds: float = 0.0
    """Start-up a trial may take before its clock starts; 0: not known."""
    noise: float | None = None
    """Standard deviation between trials of the same code."""
    hardware: Mapping[str, Any] = field(default_factory=dict)
    seconds_left: float | None = None
    cost_left_usd: float | None = None
    in_flight: tuple[Proposal, ...] = ()
    """Proposals under trial or waiting, whose outcome is not known yet."""
    tried: Mapping[str, int] = field(default_factory=dict)
    """Identity (hash of the editable files) -> number of the experiment that tried it."""
    is_stalled: bool = False
    """The session has not found anything for long: ask for a different kind of idea."""
    curves: Mapping[int, tuple[Any, ...]] = field(default_factory=dict)
    """Experiment number -> `CurvePoint`s of its first trial, for the last few and the incumbent."""
    past: tuple[Experiment, ...] = ()
    """What was tried before the session, under another setup: never compared with what is measured."""
    log_tails: Mapping[int, str] = field(default_factory=dict)
    """Experiment number -> end of its output, for the last crashes; untrusted text."""


class Proposer(Protocol):
    """Generates proposals. One instance per session."""

    kind: str

    @property
    def name(self) -> str:
        """Name to show: the model, the command, else its kind."""
        ...

    def propose(self, context: Context, stop: threading.Event) -> Proposal:
        """Return one proposal.

        Args:
            context: What is known.
            stop: Set when the session ends; return or raise soon after.

        Raises:
            EditFailedError: there was an answer, but no change could be made of it.
            ProposerUnavailableError: nothing can be had now (outage, no key, no money).
            CancelledError: `stop` was set.
        """
        ...

    def preview(self, context: Context) -> "Preview":
        """Return what it would be asked for this context; spends nothing and starts nothing."""
        ...

    def check(self) -> str:
        """Make the smallest real use of the proposer and return one sentence saying what answered.

        Raises:
            PrerequisiteError: it cannot work; names the variable or the line to set.
            ProposerUnavailableError: it cannot be had now, which time may heal; it may be asked all the same.
        """
        ...


@dataclass(frozen=True)
class Refusal:
    """Why a change will not be tried; `message` is fit for an agent to act on."""

    reason: Reason
    message: str


def refuse(reason: Reason, **values: object) -> Refusal:
    """Return a refusal with the sentence of its reason, filled in."""
    return Refusal(reason, reason.text.format(**values))


class EditFailedError(AutoresearchError):
    """An answer came and was paid for, but holds no change that may be tried; recorded as a discard.

    Args:
        reason: Of the refusal.
        proposal: What is known of the idea (description, usage, attachments), files unchanged.
    """

    def __init__(self, message: str, *, reason: str, proposal: Proposal) -> None:
        super().__init__(one_line(message, 400), kind="proposer")
        self.reason = Reason.EDIT_FAILED if reason == Reason.SYNTAX else reason
        self.proposal = proposal


class ProposerUnavailableError(AutoresearchError):
    """No proposal can be had now.

    Args:
        retry_seconds: When to ask again; None: not in this session.
        usage: What the attempt cost.
    """

    default_kind = "proposer"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retry_seconds: float | None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(message, hint=hint, kind="proposer")
        self.retry_seconds = retry_seconds
        self.usage = usage or Usage()
        self.is_not_started = False
        """Whether it is a server of this machine that does not run."""


class CostLimitError(ProposerUnavailableError):
    """The next call could cost more than what is left of `--max-cost`."""


class CancelledError(AutoresearchError):
    """The session ended while the proposer was at work; `usage` is what that had cost."""

    default_kind = "proposer"

    def __init__(self, message: str, *, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.usage = usage or Usage()


class Streak:
    """What a proposer could not give in a row, and how long it is left alone for that.

    Waits grow until a whole proposal succeeded: a call that works in between changes nothing.

    Args:
        name: The proposer's.
        advice: What helps where its answers are useless.
    """

    def __init__(self, name: str, advice: str) -> None:
        self._name = name
        self._advice = advice
        self._num_failures = 0
        self._num_useless = 0
        self._rng = random.SystemRandom()

    def end(self) -> None:
        """Note that a whole proposal succeeded."""
        self._num_failures = self._num_useless = 0

    def wait(self, num_paid: int, retry_after: float | None = None) -> float:
        """Note a failure and return the seconds to wait.

        Args:
            num_paid: Calls of the conversation, if one may have cost money.
            retry_after: What the provider asked for.
        """
        self._num_failures += 1
        least = max(retry_after or 0.0, _PAID_SECONDS * num_paid)
        return wait_seconds(self._num_failures + 2 * bool(num_paid), least, self._rng)

    def useless(
        self, refusal: Refusal, proposal: Proposal, hint: str | None = None
    ) -> AutoresearchError:
        """Note a conversation that ended in a refusal and return the error that says so.

        No experiment is made of a proposer that gave nothing at all, or one useless answer after another.

        Args:
            refusal: Of the last answer.
            proposal: What is known of the idea, files unchanged.
            hint: What helps, where that is known better than `advice`.
        """
        if refusal.reason is Reason.NO_ANSWER:
            return ProposerUnavailableError(
                f"{self._name} gives nothing to try: {one_line(refusal.message, 300)}",
                hint=hint or self._advice,
                retry_seconds=self.wait(proposal.usage.num_calls),
                usage=proposal.usage,
            )
        self._num_useless += 1
        if self._num_useless < MAX_USELESS:
            return EditFailedError(refusal.message, reason=refusal.reason, proposal=proposal)
        self._num_useless = 0
        return ProposerUnavailableError(
            f"{self._name} returned {MAX_USELESS} unusable answers in a row, the last:"
            f" {one_line(refusal.message, 200)}",
            hint=hint or self._advice,
            retry_seconds=PAUSE_SECONDS,
            usage=proposal.usage,
        )


def is_over(last: Refusal | None, refusal: Refusal, rounds_left: int) -> bool:
    """Return whether a conversation ends here: no round is left, or the answer was empty twice in a row."""
    is_empty = refusal.reason is Reason.NO_ANSWER
    return not rounds_left or (is_empty and last is not None and last.reason is Reason.NO_ANSWER)


def unforeseen(name: str, error: Exception) -> ProposerUnavailableError:
    """Return what stands for an error that no proposer should raise: the session continues, and the user is alerted.

    Args:
        name: The proposer's.
        error: What it raised: the fault of a disk, or of our own code.
    """
    if isinstance(error, AutoresearchError):
        return ProposerUnavailableError(
            f"{name} failed: {error.message}", hint=error.hint, retry_seconds=PAUSE_SECONDS
        )
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return ProposerUnavailableError(
        f"{name} failed: {type(error).__name__}: {one_line(str(error), 300)}{place}",
        retry_seconds=PAUSE_SECONDS,
    )
