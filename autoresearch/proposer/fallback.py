"""Combines proposers: a weighted mix, and a fallback during outages.

Neither stores anything but how long an outage has lasted.
"""

import contextlib
import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from autoresearch.events import Alerted
from autoresearch.proposer.base import (
    CancelledError,
    Context,
    CostLimitError,
    EditFailedError,
    Notify,
    Proposer,
    ProposerUnavailableError,
    ignore_alert,
    unforeseen,
)
from autoresearch.proposer.prompt import Preview
from autoresearch.types import Proposal, Usage

_URGENT_SECONDS = 600.0
"""If a provider asks to wait longer than this, the user is alerted and the fallback proposes."""
_LONG_SECONDS = 15.0
"""Waits from this length on are reported."""
_ADVICE = "autoresearch doctor"
"""What to type about a proposer that cannot be had."""


class Mixed:
    """Draws who proposes each experiment; the same draw for the same session seed and number.

    Args:
        members: Proposers by kind.
        shares: Kind -> share; shares need not sum to one.
    """

    kind = "mixed"

    def __init__(self, members: Mapping[str, Proposer], shares: Mapping[str, float]) -> None:
        self.members = dict(members)
        self.name = ", ".join(member.name for member in self.members.values())
        self._shares = {kind: share for kind, share in sorted(shares.items()) if share > 0}

    def draw(self, seed: int, number: int) -> str:
        """Return the kind that proposes experiment `number`."""
        rng = random.Random(f"{seed}:{number}:who")
        return rng.choices(list(self._shares), list(self._shares.values()))[0]

    def propose(self, context: Context, stop: threading.Event) -> Proposal:
        """Ask the one whose turn it is; see `Proposer.propose`."""
        kind = self.draw(context.session.seed, context.number)
        return self.members[kind].propose(context, stop)

    def preview(self, context: Context) -> Preview:
        """Return what the one whose turn it is would be asked; see `Proposer.preview`."""
        return self.members[self.draw(context.session.seed, context.number)].preview(context)

    def check(self) -> str:
        """Check every member and join what they say; an outage of one hides nothing that another lacks."""
        said: list[str] = []
        outage: ProposerUnavailableError | None = None
        for kind in self._shares:
            try:
                said.append(self.members[kind].check())
            except ProposerUnavailableError as exc:
                outage = outage or exc
        if outage is not None:
            raise outage
        return "; ".join(said)


class WithFallback:
    """Asks one proposer; while it cannot be had, another takes over, until it answers again.

    A short trouble is waited for; one that lasts longer than `patience_seconds`, or that needs the user, hands
    over. The first is asked again whenever its own waiting time is over.

    Args:
        first: The proposer that is wanted.
        second: The one that is always there.
        patience_seconds: How long the first may be silent before the second proposes.
        notify: Told when the second takes over and when the first is back.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        first: Proposer,
        second: Proposer,
        patience_seconds: float,
        notify: Notify = ignore_alert,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.first = first
        self.second = second
        self.kind = first.kind
        self.name = first.name
        self._patience = patience_seconds
        self._notify = notify
        self._clock = clock
        self._since: float | None = None
        self._next_try = 0.0
        self._is_told = False
        self._is_wait_told = False
        self._reason = ""
        self._hint = ""

    def preview(self, context: Context) -> Preview:
        """Return what the first would be asked; see `Proposer.preview`."""
        return self.first.preview(context)

    def propose(self, context: Context, stop: threading.Event) -> Proposal:
        """Return a proposal of the first, or of the second while the first cannot be had.

        Raises:
            EditFailedError: the first answered, but uselessly.
            CostLimitError: the money is spent.
            CancelledError: `stop` was set.
        """
        usage = Usage()
        while True:
            if stop.is_set():
                raise CancelledError("the session ended", usage=usage)
            if self._clock() >= self._next_try:
                try:
                    proposal = _ask(self.first, context, stop, usage)
                except CostLimitError:
                    raise
                except EditFailedError:
                    self._answered()
                    raise
                except ProposerUnavailableError as exc:
                    usage = exc.usage
                    self._failed(exc)
                else:
                    self._answered()
                    return proposal
            if self._is_second_due():
                return self._stand_in(context, stop, usage)
            if self._next_try - self._clock() >= _LONG_SECONDS:
                self._tell_wait()
            stop.wait(max(0.05, min(self._next_try, self._deadline()) - self._clock()))

    def check(self) -> str:
        """Check the first, and the second where it needs something too; see `Proposer.check`.

        A first proposer that is unavailable now is reported as during a session, and its outage has begun.
        """
        try:
            said = self.first.check()
        except ProposerUnavailableError as exc:
            self._failed(exc)
            self._tell_wait()
            if isinstance(self.second, WithFallback):
                with contextlib.suppress(ProposerUnavailableError):
                    self.second.check()
            raise
        return f"{said}; {self.second.check()}" if isinstance(self.second, WithFallback) else said

    def _deadline(self) -> float:
        return (self._since or 0.0) + self._patience

    def _is_second_due(self) -> bool:
        if self._since is None:
            return False
        needs_person = self._next_try - self._clock() >= 0.9 * _URGENT_SECONDS
        return needs_person or self._is_told or self._clock() >= self._deadline()

    def _failed(self, error: ProposerUnavailableError) -> None:
        now = self._clock()
        if self._since is None:
            self._since = now
        wait = error.retry_seconds
        self._next_try = float("inf") if wait is None else now + wait
        self._reason = error.message
        self._hint = error.hint or ""

    def _answered(self) -> None:
        if self._is_told or self._is_wait_told:
            self._notify(Alerted(text=f"{self.name} answers again", about=self.name, is_over=True))
        self._since, self._next_try = None, 0.0
        self._is_told = self._is_wait_told = False

    def _tell_wait(self) -> None:
        """Say once why nothing is proposed."""
        if not self._is_wait_told:
            self._is_wait_told = True
            minutes = math.ceil(max(1.0, self._deadline() - self._clock()) / 60)
            text = (
                f"{self._reason}: it is asked again, {self.second.name} proposes in {minutes} min"
            )
            self._notify(Alerted(text=text, command=_ADVICE, about=self.name))

    def _stand_in(self, context: Context, stop: threading.Event, usage: Usage) -> Proposal:
        if not self._is_told:
            self._is_told = True
            hint = f" ({self._hint})" if self._hint else ""
            text = f"{self._reason}: {self.second.name} proposes meanwhile{hint}"
            self._notify(Alerted(text=text, command=_ADVICE, about=self.name))
        try:
            return _ask(self.second, context, stop, usage)
        except CostLimitError:
            raise
        except ProposerUnavailableError as exc:
            # Both are silent: wait for the first, unless it is gone for good.
            wait = self._next_try - self._clock()
            retry = None if wait == float("inf") else max(1.0, wait)
            raise ProposerUnavailableError(
                f"{self._reason}; {exc.message}",
                hint=self._hint or exc.hint,
                retry_seconds=retry,
                usage=exc.usage,
            ) from exc


def _ask(proposer: Proposer, context: Context, stop: threading.Event, spent: Usage) -> Proposal:
    """Ask a proposer after `spent` has gone to calls that gave nothing; that is booked with what comes of it."""
    if context.cost_left_usd is not None and spent.cost_usd:
        left = max(0.0, context.cost_left_usd - spent.cost_usd)
        context = replace(context, cost_left_usd=left)
    try:
        proposal = proposer.propose(context, stop)
    except EditFailedError as exc:
        exc.proposal = _with_usage(exc.proposal, spent)
        raise
    except (CancelledError, ProposerUnavailableError) as exc:
        exc.usage = spent + exc.usage
        raise
    except Exception as exc:
        failure = unforeseen(proposer.name, exc)
        failure.usage = spent
        raise failure from exc
    return _with_usage(proposal, spent)


def _with_usage(proposal: Proposal, spent: Usage) -> Proposal:
    return replace(proposal, usage=spent + proposal.usage)
