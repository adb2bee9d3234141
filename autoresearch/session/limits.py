"""When a run must stop: hours, a time of day, a number of experiments, money."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from autoresearch.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """What ends a run; the first one reached. 0 is no limit."""

    seconds: float = 0.0
    experiments: int = 0
    max_cost_usd: float = 0.0

    def seconds_left(self, elapsed_seconds: float, reserve_seconds: float = 0.0) -> float | None:
        """Return the time left for experiments, never negative; None without a limit."""
        if self.seconds <= 0:
            return None
        return max(0.0, self.seconds - reserve_seconds - elapsed_seconds)

    def cost_left(self, spent_usd: float) -> float | None:
        """Return the money left in US dollars, never negative; None without a limit."""
        if self.max_cost_usd <= 0:
            return None
        return max(0.0, self.max_cost_usd - spent_usd)


def seconds_until(time_of_day: str, now: datetime) -> float:
    """Return the seconds from `now` to the next `HH:MM` in local time.

    Raises:
        UsageError: `time_of_day` is not `HH:MM`.
    """
    try:
        hour, minute = (int(part) for part in time_of_day.split(":"))
        then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    except ValueError as exc:
        raise UsageError(
            f"`--until` must be a time of day, got `{time_of_day}`",
            hint="for example `--until 07:00`",
        ) from exc
    if then <= now:
        then += timedelta(days=1)
    return (then - now).total_seconds()


def limit_seconds(hours: float, until: str | None) -> float:
    """Return the seconds of the nearer of `--hours` and `--until`; 0 where there is neither.

    Raises:
        UsageError: `until` is not `HH:MM`.
    """
    found = [hours * 3600] if hours > 0 else []
    if until is not None:
        found.append(seconds_until(until, datetime.now().astimezone()))
    return min(found, default=0.0)
