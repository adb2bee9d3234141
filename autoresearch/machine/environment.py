"""The environment of every process that uses torch: trials, judging, the measuring of kernels, `doctor`.

One function makes it, so that what is measured or examined is what runs. Keys and other secrets are not in it.
"""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from autoresearch.machine.hardware import own_gpu

_PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "CC",
    "CXX",
    "CUDA_HOME",
    "CUDA_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "HIP_PATH",
    "HIP_VISIBLE_DEVICES",
    "HSA_OVERRIDE_GFX_VERSION",
    "LD_LIBRARY_PATH",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_HIP_ALLOC_CONF",
    "ROCM_PATH",
    "ROCR_VISIBLE_DEVICES",
    "TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL",
    "TRITON_LIBCUDA_PATH",
    "TRITON_PTXAS_PATH",
)
_OUTSIDE = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "PYTHONPATH")
_MAKE_NODE_SECONDS = 10.0


def torch_environment() -> dict[str, str]:
    """Return the environment of a process that uses torch: an allow-list of the lab's own, and one GPU.

    GPUs are counted by their place unless the user set it: CUDA itself puts the fastest first, NVML and nvidia-smi do
    not, so that of two different GPUs the lab would describe and watch one while the other trains.
    """
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment = {"PATH": os.defpath, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", **passed_on, **own_gpu()}
    # Threads that spin while they wait halve the speed of a CPU trial as soon as another process wants the core;
    # threads that sleep at once are woken too late for the short steps of small models. So they spin a moment, then
    # sleep. One step of the cpu preset on two cores, alone and with another process that takes one of them, for a
    # GOMP_SPINCOUNT of 0: 57 and 61 ms, 3,000: 33 and 92 ms, 5,000: 32 and 108 ms, 10,000: 32 and 148 ms, 30,000: 32
    # and 204 ms. Steps of a whole trial: 590 with 0, 1,200 with 1,000, 1,600 with 3,000, 1,785 with 5,000.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.setdefault("GOMP_SPINCOUNT", "5000")
    # glibc hands freed tensors of megabytes back to the system, which then has to clear their pages again:
    # a tenth of a step on a processor (74 ms against 82 ms, 80 page faults against 3,800). Ignored by other libraries.
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 << 20))
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 30))
    return environment


def outside_environment() -> dict[str, str]:
    """Return the same for a process outside the sandbox, which has the user's home and packages."""
    return {**{k: os.environ[k] for k in _OUTSIDE if k in os.environ}, **torch_environment()}


def make_gpu_nodes(device: Path = Path("/dev")) -> None:
    """Have NVIDIA's own helper make `/dev/nvidia-uvm`, which CUDA needs and a freshly started machine may lack.

    Outside a sandbox the first CUDA process does it; a trial may not. A failure shows when the trial starts.
    """
    helper = shutil.which("nvidia-modprobe")
    if helper and (device / "nvidiactl").exists() and not (device / "nvidia-uvm").exists():
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                [helper, "-c0", "-u"], capture_output=True, timeout=_MAKE_NODE_SECONDS, check=False
            )
