"""Asks a proposer from a separate thread, so that the device trains while it thinks."""

import queue
import threading
import time

from autoresearch.proposer.base import (
    CancelledError,
    Context,
    EditFailedError,
    Proposer,
    ProposerUnavailableError,
    unforeseen,
)
from autoresearch.types import Proposal


class Ahead:
    """One question at a time to one proposer; answers wait until they are taken.

    Args:
        proposer: Asked in a daemon thread.
        depth: How many proposals may be prepared while a trial runs; 0 asks only between trials.
    """

    def __init__(self, proposer: Proposer, depth: int) -> None:
        self.proposer = proposer
        self.depth = depth
        self.answer_seconds = 0.0
        """What the last answer took."""
        self._answers: queue.SimpleQueue[Proposal | BaseException] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a question is out, or an answer waits to be taken."""
        return self._thread is not None

    def request(self, context: Context) -> None:
        """Ask; the answer is given by `take`. At most one question may be out."""
        assert self._thread is None, "one question at a time"
        self._thread = threading.Thread(
            target=self._ask, args=(context,), name="proposer", daemon=True
        )
        self._thread.start()

    def take(self, timeout: float = 0.0) -> Proposal | None:
        """Return the answer, or None when there is none within `timeout` seconds.

        Raises:
            EditFailedError: the answer could not be made into a change.
            ProposerUnavailableError: no proposal can be had now, or the proposer failed unexpectedly.
            CancelledError: `cancel` was called.
        """
        try:
            answer = self._answers.get(timeout=timeout) if timeout else self._answers.get_nowait()
        except queue.Empty:
            return None
        self._thread = None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def cancel(self, timeout: float = 2.0) -> None:
        """Tell the proposer to stop and wait a little; an answer that still comes can be taken."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _ask(self, context: Context) -> None:
        began = time.monotonic()
        try:
            answer: Proposal | BaseException = self.proposer.propose(context, self._stop)
        except (EditFailedError, ProposerUnavailableError, CancelledError) as exc:
            answer = exc
        except Exception as exc:  # noqa: BLE001 - whatever it is, it must not end the night
            answer = unforeseen(self.proposer.name, exc)
        except BaseException as exc:  # noqa: BLE001 - handed to the thread that takes it
            answer = exc
        if self._stop.is_set() and not isinstance(answer, Proposal | EditFailedError):
            usage = getattr(answer, "usage", None)
            answer = CancelledError("the session ended", usage=usage)
        self.answer_seconds = time.monotonic() - began
        self._answers.put(answer)
