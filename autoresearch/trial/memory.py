"""How much memory a training took, sampled from outside."""

import contextlib
import time
from typing import Any

from autoresearch.machine.hardware import gpu_handle
from autoresearch.trial.process import tree_memory_mb, tree_pids

_INTERVAL_SECONDS = 1.0


class MemoryMeter:
    """Samples the peak memory of a child: device memory on CUDA, resident memory elsewhere.

    Args:
        pid: Of the supervisor; all processes below it count.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._gpu: _GpuMeter | None = None
        self._next = time.monotonic() + 0.3
        self._resident = 0.0
        self.last_mb: float | None = None

    def watch_device(self, device: str) -> None:
        """Look at the GPU too, from now on."""
        if device == "cuda" and self._gpu is None:
            self._gpu = _GpuMeter.open()

    def sample(self, *, is_last: bool = False) -> None:
        """Take a sample if one is due."""
        now = time.monotonic()
        if now < self._next and not is_last:
            return
        self._next = now + _INTERVAL_SECONDS
        resident = tree_memory_mb(self._pid)
        self._resident = max(self._resident, resident or 0.0)
        self.last_mb = resident
        if self._gpu is not None:
            self.last_mb = self._gpu.sample(tree_pids(self._pid))

    def note_resident(self, peak_mb: float | None) -> None:
        """Take the peak the system itself counted for the largest process."""
        self._resident = max(self._resident, peak_mb or 0.0)

    @property
    def peak_mb(self) -> float | None:
        """Largest sample in MB, None if there is none."""
        if self._gpu is not None:
            return self._gpu.peak_mb or None
        return self._resident or None


class _GpuMeter:
    """Memory in use on the first visible NVIDIA GPU, through NVML."""

    def __init__(self, nvml: Any, handle: Any, before_mb: float) -> None:
        self._nvml = nvml
        self._handle = handle
        self._before_mb = before_mb
        self._knows_pids = False
        self.peak_mb = 0.0

    @classmethod
    def open(cls) -> "_GpuMeter | None":
        """Return a meter, None where NVML is not to be had (ROCm, no driver)."""
        with contextlib.suppress(Exception):
            import pynvml

            pynvml.nvmlInit()
            handle = gpu_handle(pynvml)
            if handle is not None:
                return cls(pynvml, handle, pynvml.nvmlDeviceGetMemoryInfo(handle).used / 2**20)
        return None

    def sample(self, pids: set[int]) -> float | None:
        """Return MB the processes use; in a container without a view of pids, what the device gained."""
        try:
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
            own = [p.usedGpuMemory for p in running if p.pid in pids and p.usedGpuMemory]
            if own and not self._knows_pids:
                self._knows_pids = True
                self.peak_mb = 0.0  # what the device gained so far may be other people's
            if self._knows_pids:
                used = float(sum(own)) / 2**20
            else:
                total = float(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used) / 2**20
                used = max(0.0, total - self._before_mb)
        except Exception:  # noqa: BLE001 - a driver may fail in many ways, and this is a view
            return None
        self.peak_mb = max(self.peak_mb, used)
        return used
