"""Numbers and untrusted text as people read them; pure, no colour, ASCII unless asked otherwise."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from rich.cells import cell_len, set_cell_size

from autoresearch.events import parse_time
from autoresearch.types import MB_PER_GB
from autoresearch.util.stats import decimals as decimals  # noqa: PLC0414 - part of this module
from autoresearch.util.text import clean as clean  # noqa: PLC0414 - part of this module, as `text.clean`

NONE = "-"
"""What stands where a number is missing."""

_RAMP_UNICODE = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_RAMP_ASCII = ".:-=+*#@"


def fit(text: str, width: int, *, ellipsis: str = "...") -> str:
    """Cut `text` to `width` terminal cells, with an ellipsis where something was cut."""
    if cell_len(text) <= width:
        return text
    if width <= len(ellipsis):
        return set_cell_size(text, max(width, 0))
    return set_cell_size(text, width - len(ellipsis)).rstrip(" .,;:") + ellipsis


def score(value: float | None, digits: int = 6) -> str:
    """A score with so many decimals."""
    return NONE if value is None else f"{value:.{digits}f}"


def delta(value: float | None, digits: int = 6) -> str:
    """A signed difference."""
    return NONE if value is None else f"{value:+.{digits}f}"


def bounds(low: float | None, high: float | None) -> str:
    """The interval of a difference, `[-0.104826, -0.031542]`."""
    return f"[{delta(low)}, {delta(high)}]"


def percent(value: float | None, *, sign: bool = False, digits: int = 0) -> str:
    """A share as per cent."""
    if value is None:
        return NONE
    return f"{value * 100:{'+' if sign else ''}.{digits}f}%"


def share(value: float | None) -> str:
    """A relative change as per cent in two digits, `-2.4%`."""
    if value is None:
        return NONE
    return f"{value * 100:+.0f}%" if abs(value) >= 0.0995 else f"{value * 100:+.2g}%"


def probability(value: float | None) -> str:
    """A probability with two decimals that never rounds to certainty."""
    if value is None:
        return NONE
    if value > 0.99:
        return ">.99"
    return "<.01" if value < 0.01 else f"{value:.2f}"


def duration(seconds: float | None) -> str:
    """Seconds as `0.4s`, `38s`, `5m41s`, `8h04m`, `2d03h`."""
    if seconds is None:
        return NONE
    if seconds < 0:
        return "-" + duration(-seconds)
    if 0 < seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    minutes = whole // 60
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    hours = minutes // 60
    return f"{hours // 24}d{hours % 24:02d}h"


def count(value: float | None) -> str:
    """A large count in three digits: `953`, `41.2k`, `1.66M`, `499M`."""
    if value is None:
        return NONE
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            scaled = value / size
            digits = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
            return f"{scaled:.{digits}f}{unit}"
    return f"{value:.0f}"


def memory(megabytes: float | None) -> str:
    """MB of memory as `812MB` or `44.0GB`."""
    if megabytes is None:
        return NONE
    return f"{megabytes:.0f}MB" if megabytes < 999.5 else f"{megabytes / MB_PER_GB:.1f}GB"


def size(num_bytes: float | None) -> str:
    """Bytes of files as `312 B`, `41.2 kB`, `1.1 GB`."""
    if num_bytes is None:
        return NONE
    units = iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while num_bytes >= 1023.95 and (larger := next(units, "")):
        num_bytes, unit = num_bytes / 1024, larger
    return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"


def money(usd: float | None) -> str:
    """US dollars: cents, or four decimals below one cent."""
    if usd is None:
        return NONE
    return f"${usd:.4f}" if 0 < usd < 0.01 else f"${usd:.2f}"


def numbers(found: Sequence[int], most: int = 10) -> str:
    """Numbers of experiments as `#1, #2 and 3 more`."""
    text = ", ".join(f"#{n}" for n in found[:most])
    return text + (f" and {len(found) - most} more" if len(found) > most else "")


def capital(text: str) -> str:
    """A sentence with a capital first letter."""
    return text[:1].upper() + text[1:]


def now() -> datetime:
    """Return the time it is, in UTC; what the screens call now."""
    return datetime.now(UTC)


def clock(text: str, *, now: datetime | None = None) -> str:
    """Return the local clock time of an ISO text, with the date where it is not `now`'s."""
    moment = parse_time(text)
    if moment is None:
        return NONE
    local = moment.astimezone()
    if now is not None and local.date() == now.astimezone().date():
        return f"{local:%H:%M}"
    return f"{local:%Y-%m-%d %H:%M}"


def ago(text: str, now: datetime) -> str:
    """Return how long ago an ISO text was, `49m ago`."""
    moment = parse_time(text)
    if moment is None:
        return NONE
    seconds = (now - moment).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{seconds // 60:.0f}m ago"
    return duration(seconds) + " ago"


def sparkline(values: Sequence[float], width: int, *, utf8: bool = True) -> str:
    """Draw values as one row of characters, lowest to highest, thinned to `width` by means."""
    values = [v for v in values if v == v and abs(v) != float("inf")]
    if not values or width < 1:
        return ""
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(values), max(values)
    ramp = _RAMP_UNICODE if utf8 else _RAMP_ASCII
    if high <= low:
        return ramp[0] * len(values)
    top = len(ramp) - 1
    return "".join(ramp[round((v - low) / (high - low) * top)] for v in values)


def bar(share: float, width: int, *, utf8: bool = True) -> str:
    """Draw a progress bar of `width` cells, brackets included."""
    share = min(max(share, 0.0), 1.0)
    inner = max(width - 2, 1)
    full = int(share * inner)
    if utf8:
        return "[" + "\u2501" * full + " " * (inner - full) + "]"
    head = ">" if 0 < full < inner else ""
    return "[" + ("=" * (full - len(head)) + head).ljust(inner) + "]"
