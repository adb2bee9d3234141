"""What proposing costs: prices, sums, and the cap that counts calls in flight."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from autoresearch.proposer.base import CostLimitError
from autoresearch.types import Usage


@dataclass(frozen=True)
class Price:
    """US dollars per token."""

    read: float
    write: float

    def most(self, tokens_in: int, tokens_out: int) -> float:
        """Return the most a call can cost."""
        return tokens_in * self.read + tokens_out * self.write


class Ledger:
    """Money reserved by calls that have not answered yet, over all threads of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reserved = 0.0

    @contextmanager
    def reserve(self, most: float | None, left: float | None, spent: Usage) -> Iterator[None]:
        """Hold the most a call can cost while it is under way.

        Args:
            most: What it can cost; None when the price is unknown, then nothing is held.
            left: What the session may still spend, `spent` not yet taken off; None is no limit.
            spent: What this proposal has cost so far, not yet in the record.

        Raises:
            CostLimitError: spent and in flight and this call together could pass the limit.
        """
        amount = most or 0.0
        with self._lock:
            free = None if left is None else left - self._reserved - (spent.cost_usd or 0.0)
            if free is not None and amount > free:
                raise CostLimitError(
                    f"the next call could cost ${amount:.4f}, ${max(free, 0.0):.4f} of `--max-cost` is left",
                    hint="raise `--max-cost`, or lower `[proposer] max_output_tokens`",
                    retry_seconds=None,
                    usage=spent,
                )
            self._reserved += amount
        try:
            yield
        finally:
            with self._lock:
                self._reserved -= amount
