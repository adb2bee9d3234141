"""What a trial reports while it runs: captured output, the training curve, memory."""

import contextlib
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoresearch.machine.hardware import amd_card, gpu_handle
from autoresearch.sandbox.launcher import groups, kernel
from autoresearch.trial.process import tree_pids
from autoresearch.types import MB, CurvePoint
from autoresearch.util.text import clean_escapes, one_line, printable

_TAIL_CHARACTERS = 16_000
_MAX_LINE = 2_000


class Output:
    """The first and the last half of a stream, within a bound.

    Args:
        max_bytes: How much is kept in all.
    """

    def __init__(self, max_bytes: int) -> None:
        self._half = max(1, max_bytes // 2)
        self._head = bytearray()
        self._tail = bytearray()
        self.num_bytes = 0

    def add(self, data: bytes) -> None:
        """Take what came."""
        self.num_bytes += len(data)
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail += data
            if len(self._tail) > 2 * self._half:
                del self._tail[: -self._half]

    @property
    def text(self) -> str:
        """What was kept, cleaned, with a line where something was dropped."""
        tail = self._tail[-self._half :]
        dropped = self.num_bytes - len(self._head) - len(tail)
        text = _clean_log(self._head.decode("utf-8", "replace"))
        if dropped:
            text += f"\n[{dropped} bytes dropped]\n"
        return text + _clean_log(tail.decode("utf-8", "replace"))

    @property
    def tail(self) -> str:
        """The last lines, cleaned."""
        return self.text[-_TAIL_CHARACTERS:]


def _clean_log(text: str) -> str:
    """Return a log without escape codes and invisible characters; a carriage return overwrites its line."""
    lines = []
    for line in clean_escapes(text.replace("\r\n", "\n")).split("\n"):
        shown = printable(line.rstrip("\r").rpartition("\r")[2].expandtabs(4))
        if len(shown) > _MAX_LINE:
            shown = f"{shown[: _MAX_LINE // 2]} ... {shown[-_MAX_LINE // 2 :]}"
        lines.append(shown)
    return "\n".join(lines)


def explain_error(message: Mapping[str, Any], where: str = "") -> tuple[str, str]:
    """Return (reason, detail) of an `error` message of a child, cleaned; its words are data."""
    name = one_line(str(message.get("exception", "")), 80) or "an exception"
    text = one_line(str(message.get("message", "")), 300)
    line = message.get("line")
    place = f" (train.py line {line})" if type(line) is int and 0 < line < 10**6 else ""
    detail = f"{name}: {text}" if text else name
    reason = "oom" if message.get("kind") == "oom" else "exception"
    return reason, f"{where + ': ' if where else ''}{detail}{place}"


_MAX_POINTS = 600
_MAX_VALUES = 16
_NUM_NAN = 3
_NUM_LOSSES = 5


class HopelessError(Exception):
    """The loss says that nothing will come of this training.

    Args:
        reason: `nan` or `diverged`.
        detail: One sentence.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Curve:
    """Keeps at most 600 points, evenly thinned.

    Args:
        budget_seconds: Of the training.
        divergence_loss: Loss in nats above which, after a tenth of the budget, a training has diverged; None never.
    """

    def __init__(self, budget_seconds: float, divergence_loss: float | None) -> None:
        self.points: list[CurvePoint] = []
        self._budget_seconds = budget_seconds
        self._divergence_loss = divergence_loss
        self._losses: list[float] = []
        self._num_nan = 0
        self._num_logged = 0
        self._keep_every = 1

    @property
    def ends_in_nan(self) -> bool:
        """Whether the last logged loss was not finite."""
        return self._num_nan > 0

    @property
    def why_hopeless(self) -> tuple[str, str] | None:
        """(reason, detail) where the last logged loss explains that a script gave up; None where it does not."""
        if self.ends_in_nan:
            return "nan", "the script ended: its loss was not finite"
        limit, last = self._divergence_loss, self._losses[-1:]
        if limit is not None and last and last[0] > limit:
            return "diverged", f"the script ended: its loss was {last[0]:.3g}, above {limit:.3g}"
        return None

    def add(self, values: Mapping[str, Any], seconds: float, num_tokens: int) -> None:
        """Take what was logged `seconds` into the training; what is no number is passed over.

        Raises:
            HopelessError: the loss has been NaN, or far too high, for several in a row.
        """
        numbers: dict[str, float] = {}
        for name, value in list(values.items())[:_MAX_VALUES]:
            number = _number(value)
            if number is not None:
                numbers[one_line(str(name), 40)] = number
        loss = numbers.pop("loss", None)
        if loss is not None:
            self._look_at(loss, seconds / self._budget_seconds)
        self._num_logged += 1
        if self._num_logged % self._keep_every:
            return
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        kept = loss if loss is not None and math.isfinite(loss) else None
        self.points.append(CurvePoint(round(seconds, 3), num_tokens, kept, finite))
        if len(self.points) >= _MAX_POINTS:
            del self.points[::2]
            self._keep_every *= 2

    def _look_at(self, loss: float, spent: float) -> None:
        if not math.isfinite(loss):
            self._num_nan += 1
            if self._num_nan >= _NUM_NAN:
                raise HopelessError("nan", f"the loss became {loss}")
            return
        self._num_nan = 0
        self._losses.append(loss)
        del self._losses[:-_NUM_LOSSES]
        limit = self._divergence_loss
        if limit is not None and spent > 0.1 and len(self._losses) == _NUM_LOSSES:
            median = sorted(self._losses)[_NUM_LOSSES // 2]
            if median > limit:
                raise HopelessError(
                    "diverged",
                    f"the loss was {median:.3g} after {spent:.0%} of the budget, above {limit:.3g}",
                )


def _number(value: object) -> float | None:
    """Return a logged value as a float, None if it is no number; JSON has integers that no float holds."""
    if isinstance(value, bool) or not (
        isinstance(value, int | float) or value in ("nan", "inf", "-inf")
    ):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


_INTERVAL_SECONDS = 1.0
_FREED_SECONDS = 3.0


class MemoryMeter:
    """Samples the peak memory of a child: device memory on CUDA and ROCm, that of the machine elsewhere.

    Of the machine's it is what the processes have of their own, each page once, with files in memory, and the files
    of a disk that the largest process maps. Where the keeper made a control group, the kernel counts, and nothing
    between two samples is missed.

    Args:
        pid: Of the supervisor; all processes below it count.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._gpu: _GpuMeter | None = None
        self._next = time.monotonic() + 0.3
        self._resident = _Resident()
        self._largest_mb = 0.0
        self.last_mb: float | None = None

    def watch_device(self, device: str) -> None:
        """Look at the GPU too, from now on."""
        if device == "cuda" and self._gpu is None:
            self._gpu = _GpuMeter()

    def sample(self, *, is_last: bool = False) -> None:
        """Take a sample if one is due."""
        now = time.monotonic()
        if now < self._next and not is_last:
            return
        self._next = now + _INTERVAL_SECONDS
        pids = tree_pids(self._pid)
        self.last_mb = self._resident.sample(pids)
        if self._gpu is not None:
            self.last_mb = self._gpu.sample(pids)

    def wait_until_freed(self) -> None:
        """Wait a moment for the driver to free what the ended child held: judging may need all of it."""
        if self._gpu is not None:
            self._gpu.wait_until_freed()

    def note_resident(self, peak_mb: float | None) -> None:
        """Take the peak the system itself counted for the largest process."""
        self._largest_mb = peak_mb or 0.0

    @property
    def peak_mb(self) -> float | None:
        """Largest sample in MB, None if there is none."""
        if self._gpu is not None:
            return self._gpu.peak_mb or None
        return max(self._resident.peak_mb, self._largest_mb) or None


class _Resident:
    """Memory of this machine that processes use."""

    def __init__(self) -> None:
        self._own_mb = self._cached_mb = self._mapped_mb = 0.0

    @property
    def peak_mb(self) -> float:
        """What they had at most of their own, and the most that one of them had mapped of files."""
        return self._own_mb + self._mapped_mb

    def sample(self, pids: set[int]) -> float | None:
        """Return MB in use now, None if the processes are gone."""
        if not pids:
            return None
        if sys.platform != "linux":
            used = float(sum(map(_resident_bytes, pids))) / MB
            self._own_mb = max(self._own_mb, used)
            return used
        mapped = max(map(_mapped_bytes, pids)) / MB
        group = next(filter(None, map(groups.memory_of, pids)), None)
        if group is None:
            used = peak = float(kernel.usage(pids)[0])
        else:
            used, most, cached = (count / MB for count in group)
            self._cached_mb = max(self._cached_mb, cached)
            peak = max(used, most - self._cached_mb)
        self._own_mb, self._mapped_mb = max(self._own_mb, peak), max(self._mapped_mb, mapped)
        return used + mapped


def _resident_bytes(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _mapped_bytes(pid: int) -> int:
    """Return the bytes of files of a disk that a process has in memory."""
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/status").open() as lines:
        for line in lines:
            if line.startswith("RssFile:"):
                return 1024 * int(line.split()[1])
    return 0


class _GpuMeter:
    """Memory in use on the GPU of a trial: NVIDIA's by NVML, AMD's by /sys."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handle: Any = None
        self._card = amd_card()
        with contextlib.suppress(Exception):
            import pynvml

            pynvml.nvmlInit()
            self._nvml, self._handle = pynvml, gpu_handle(pynvml)
        self._before_mb = self._device_mb() or 0.0
        self._knows_pids = False
        self.peak_mb = 0.0

    def sample(self, pids: set[int]) -> float | None:
        """Return MB the processes use; where the driver does not know them, what the device gained."""
        own = self._own_mb(pids)
        if own and not self._knows_pids:
            self._knows_pids = True
            self.peak_mb = 0.0  # what the device gained so far may be other people's
        used = own if self._knows_pids else self._gain_mb()
        if used is not None:
            self.peak_mb = max(self.peak_mb, used)
        return used

    def wait_until_freed(self) -> None:
        """Wait until the driver has freed what an ended trial held, at most three seconds."""
        until = time.monotonic() + _FREED_SECONDS
        while (self._gain_mb() or 0.0) > 0.05 * self.peak_mb and time.monotonic() < until:
            time.sleep(_FREED_SECONDS / 100)

    def _gain_mb(self) -> float | None:
        used = self._device_mb()
        return None if used is None else max(0.0, used - self._before_mb)

    def _device_mb(self) -> float | None:
        """Return MB used on the device; None where the driver does not say, as on memory shared with the processor."""
        with contextlib.suppress(Exception):  # a driver may fail in many ways, and this is a view
            if self._handle is not None:
                return float(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used) / MB
            if self._card is not None:
                return float((self._card / "mem_info_vram_used").read_text()) / MB
        return None

    def _own_mb(self, pids: set[int]) -> float | None:
        """Return MB of these processes; None where they are not listed (WSL2, containers, AMD)."""
        with contextlib.suppress(Exception):
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
            own = [p.usedGpuMemory for p in running if p.pid in pids and p.usedGpuMemory]
            return float(sum(own)) / MB
        return None
