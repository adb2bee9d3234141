"""Describes this machine without importing torch: NVML, psutil, /sys and package metadata.

`describe()` costs a few milliseconds and never raises: what cannot be found out is None or empty. It does
not start a GPU context, so it may run beside a trial.
"""

import contextlib
import functools
import importlib.util
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

from autoresearch.types import MB
from autoresearch.util.host import memory_bytes, num_cores

Kind = Literal["cuda", "rocm", "mps", "cpu"]


_DEVICES = Path("/dev")
_KFD = Path("/dev/kfd")
_DRM = Path("/sys/class/drm")
_DEVICE_TREE = Path("/proc/device-tree")
_AMD_VENDOR = "0x1002"
_MUCH_CPU = 25.0
"""Percent of one core from which a process is named as one that uses the machine."""


class _Gpu(NamedTuple):
    kind: Kind
    name: str
    memory_mb: int
    driver: str
    capability: float | None = None


PEAK_TFLOPS: dict[str, float] = {
    "GB300": 2500.0,
    "GB200": 2500.0,
    "B300": 2250.0,
    "B200": 2250.0,
    "H200": 989.4,
    "GH200 480GB": 989.4,
    "H100 80GB HBM3": 989.4,
    "H800": 989.4,
    "H100 NVL": 835.5,
    "H100 PCIe": 756.5,
    "H20": 148.0,
    "A100-SXM4-80GB": 312.0,
    "A100-SXM4-40GB": 312.0,
    "A100-SXM-80GB": 312.0,
    "A100-SXM-64GB": 312.0,
    "A100-PCIE-40GB": 312.0,
    "A100 80GB PCIe": 312.0,
    "A800-SXM4-80GB": 312.0,
    "A40": 149.7,
    "A30": 165.0,
    "A10": 125.0,
    "A10G": 70.0,
    "L40S": 362.1,
    "L40": 181.1,
    "L4": 121.0,
    # An eighth of their figure for sparse FP4.
    "RTX PRO 6000 Blackwell Server Edition": 500.0,
    "RTX PRO 6000 Blackwell Workstation Edition": 500.0,
    "RTX PRO 6000 Blackwell Max-Q Workstation Edition": 438.9,
    "RTX 6000 Ada Generation": 364.2,
    "RTX A6000": 154.8,
    "RTX A5000": 111.1,
    "RTX A4000": 76.7,
    "GeForce RTX 5090": 209.5,
    "GeForce RTX 5080": 112.6,
    "GeForce RTX 5070 Ti": 87.9,
    "GeForce RTX 5070": 61.7,
    "GeForce RTX 4090": 165.2,
    "GeForce RTX 4080 SUPER": 104.4,
    "GeForce RTX 4080": 97.5,
    "GeForce RTX 4070 Ti SUPER": 88.2,
    "GeForce RTX 4070 Ti": 80.2,
    "GeForce RTX 4070 SUPER": 71.0,
    "GeForce RTX 4070": 58.3,
    "GeForce RTX 4060 Ti": 44.1,
    "GeForce RTX 4060": 30.2,
    "GeForce RTX 3090 Ti": 80.0,
    "GeForce RTX 3090": 71.0,
    "GeForce RTX 3080 Ti": 68.2,
    "GeForce RTX 3080": 59.5,
    "GeForce RTX 3070 Ti": 43.5,
    "GeForce RTX 3070": 40.6,
    "GeForce RTX 3060 Ti": 32.4,
    "GeForce RTX 3060": 25.5,
    "AMD Instinct MI300X": 1307.4,
    "AMD Instinct MI250X": 383.0,
    "AMD Instinct MI210": 181.0,
}
"""Dense bf16 matrix TFLOPS with float32 accumulation, from the makers' data sheets, by exact product name.

A name that is not here has no peak: a laptop part shares its number with a desktop part, not its speed.
"""


@dataclass(frozen=True)
class GpuProcess:
    """A process that holds memory on the GPU."""

    pid: int
    name: str
    memory_mb: float | None


@dataclass(frozen=True)
class GpuStatus:
    """How the GPU is doing now; None where the driver does not say."""

    temperature_c: int | None = None
    clock_mhz: int | None = None
    max_clock_mhz: int | None = None
    throttled_by: tuple[str, ...] = ()
    """`power`, `heat`, `hardware`; empty when nothing slows it down."""


@dataclass(frozen=True)
class Hardware:
    """The device trials run on, and the machine around it."""

    kind: Kind
    name: str
    """Product name of the GPU, else of the processor."""
    memory_mb: int | None
    """Of the device; of the machine for `mps` and `cpu`, half of that where an NVIDIA GPU shares it."""
    driver: str
    """Driver of the GPU; empty on a CPU."""
    torch: str
    """Version of the installed torch, `2.13.0+cpu`; empty when there is none."""
    cores: int
    """Processor cores this process may use."""
    cpu: str
    ram_mb: int
    system: str
    """`Linux 6.8.0 x86_64`."""
    python: str
    peak_tflops: float | None
    """Dense bf16 peak; None when the product is not in the table."""
    capability: float | None = None
    """CUDA compute capability; None elsewhere and where the driver does not say."""
    note: str = ""
    """Why a GPU that is there is not used; empty otherwise."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@functools.cache
def describe(device: str = "auto") -> Hardware:
    """Return the hardware trials run on.

    Args:
        device: `auto` takes the best there is; `cuda`, `mps` or `cpu` insists.
    """
    cpu = _cpu_name()
    ram_mb = memory_bytes() // MB
    torch = package_version("torch")
    found, notes = None, []
    for gpu in _gpus():
        if device not in ("auto", device_of(gpu.kind)):
            continue
        why = _unusable(gpu.kind, gpu.name, torch)
        if not why:
            found = gpu
            break
        notes.append(why)
    if found is None and not notes and device in ("auto", "cuda") and (why := _unseen()):
        notes.append(why)
    used = found or _Gpu("cpu", cpu, ram_mb, "")
    return Hardware(
        kind=used.kind,
        name=used.name,
        memory_mb=used.memory_mb,
        driver=used.driver,
        torch=torch,
        cores=num_cores(),
        cpu=cpu,
        ram_mb=ram_mb,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        peak_tflops=peak_tflops(used.name),
        capability=used.capability,
        note="; ".join(notes) if found is None else "",
    )


def device_of(kind: Kind) -> str:
    """Return what torch calls a kind of device: `cuda` for ROCm too."""
    return "cuda" if kind == "rocm" else kind


def peak_tflops(name: str) -> float | None:
    """Return the dense bf16 peak of a product by its exact name, None when unknown."""
    return PEAK_TFLOPS.get(name.removeprefix("NVIDIA ").removesuffix(" OAM").strip())


def package_version(name: str) -> str:
    """Return the installed version of a package without importing it, `""` when absent."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def gpu_processes() -> list[GpuProcess]:
    """Return the processes that use the GPU, other than this one; empty without NVML."""
    import psutil

    found: list[GpuProcess] = []
    with _nvml() as nvml:
        if nvml is None:
            return found
        handle = gpu_handle(nvml)
        if handle is None:
            return found
        with contextlib.suppress(nvml.NVMLError):
            for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
                if process.pid == os.getpid():
                    continue
                try:
                    name = psutil.Process(process.pid).name()
                except psutil.Error:
                    name = "?"
                used = process.usedGpuMemory
                found.append(GpuProcess(process.pid, name, None if used is None else used / MB))
    return found


def who_else(look_seconds: float = 0.5) -> str:
    """Return which other processes use the GPU, else most of the processor, as `python (4711)`; empty for none.

    What this process started does not count.
    """
    import psutil

    if others := gpu_processes():
        return ", ".join(f"{p.name} ({p.pid})" for p in others[:3])
    mine = psutil.Process()
    ours = {mine.pid, *(child.pid for child in mine.children(recursive=True))}
    found = [p for p in psutil.process_iter() if p.pid not in ours]
    shares: list[tuple[float, str]] = []
    for is_first in (True, False):
        for process in found:
            with contextlib.suppress(psutil.Error):
                share = process.cpu_percent()
                if share >= _MUCH_CPU and not is_first:
                    shares.append((share, f"{process.name()} ({process.pid})"))
        time.sleep(look_seconds * is_first)
    return ", ".join(name for _, name in sorted(shares, reverse=True)[:3])


def gpu_uuid() -> str | None:
    """Return the maker's own number of the GPU torch uses first, however the user named it; None without NVML."""
    with _nvml() as nvml:
        handle = None if nvml is None else gpu_handle(nvml)
        if nvml is not None and handle is not None:
            with contextlib.suppress(nvml.NVMLError):
                return str(nvml.nvmlDeviceGetUUID(handle))
    return None


def own_gpu() -> dict[str, str]:
    """Return the variable by which torch sees the first of several GPUs alone; empty where there is but one."""
    visible = os.environ.get("HIP_VISIBLE_DEVICES") or os.environ.get("CUDA_VISIBLE_DEVICES")
    if _KFD.exists() and not os.environ.get("ROCR_VISIBLE_DEVICES"):
        return {"HIP_VISIBLE_DEVICES": (visible or "0").split(",")[0].strip()}
    with _nvml() as nvml:
        if nvml is not None and nvml.nvmlDeviceGetCount() > 1 and (uuid := gpu_uuid()):
            return {"CUDA_VISIBLE_DEVICES": uuid}
    return {}


def gpu_status() -> GpuStatus | None:
    """Return temperature, power, clocks and what throttles the GPU; None without NVML."""
    with _nvml() as nvml:
        handle = None if nvml is None else gpu_handle(nvml)
        if nvml is None or handle is None:
            return None

        def ask(function: Any, *arguments: Any) -> Any:
            try:
                return function(handle, *arguments)
            except nvml.NVMLError:
                return None

        reasons = ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons) or 0
        return GpuStatus(
            temperature_c=ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            clock_mhz=ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            max_clock_mhz=ask(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM),
            throttled_by=throttle_words(reasons),
        )


def gpu_handle(nvml: Any) -> Any | None:
    """Return NVML's handle of the GPU torch uses first, None when there is none.

    It is the first that CUDA_VISIBLE_DEVICES allows, an index or a UUID. Indices are those of NVML for torch too, in
    the environment that `environment.torch_environment` makes. Of a GPU that is cut into slices (MIG), CUDA takes the
    first slice.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = "0" if visible is None else visible.split(",")[0].strip()
    try:
        if first.isdigit():
            return _first_slice(nvml, nvml.nvmlDeviceGetHandleByIndex(int(first)))
        if re.match(r"(GPU|MIG)-", first):
            handle = nvml.nvmlDeviceGetHandleByUUID(first)
            return handle if first.startswith("MIG") else _first_slice(nvml, handle)
    except nvml.NVMLError:
        return None
    return None


def _first_slice(nvml: Any, handle: Any) -> Any | None:
    """Return the first MIG slice of a GPU, None where it is cut into none; the GPU itself where MIG is off."""
    try:
        if nvml.nvmlDeviceGetMigMode(handle)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return handle
        count = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except nvml.NVMLError:  # a product without it
        return handle
    for index in range(count):
        with contextlib.suppress(nvml.NVMLError):  # places of slices may be empty
            return nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
    return None


def throttle_words(reasons: int) -> tuple[str, ...]:
    """Return NVML's clock-throttle bits as words; idle and application clocks are not throttling."""
    words = (
        ("power", 0x4 | 0x80),  # software power cap, hardware power brake
        ("heat", 0x20 | 0x40),  # software and hardware thermal slowdown
        ("hardware", 0x8),  # hardware slowdown, unspecified
    )
    return tuple(word for word, bits in words if reasons & bits)


# ----------------------------------------------------------------------------------- finding


def _gpus() -> Iterator[_Gpu]:
    """The first GPU of each maker."""
    if platform.system() == "Darwin":
        if platform.machine() == "arm64":
            name = _sysctl("machdep.cpu.brand_string") or "Apple GPU"
            yield _Gpu("mps", name, memory_bytes() // MB, platform.mac_ver()[0])
        return
    for find in (_nvidia, _amd):
        if (gpu := find()) is not None:
            yield gpu


def _nvidia() -> _Gpu | None:
    with _nvml() as nvml:
        handle = None if nvml is None else gpu_handle(nvml)
        if nvml is None or handle is None:
            return _jetson()
        with contextlib.suppress(nvml.NVMLError):
            name = str(nvml.nvmlDeviceGetName(handle))
            memory_mb = memory_bytes() // 2**21  # shared with the processor: half is left to it
            with contextlib.suppress(nvml.NVMLError):
                memory_mb = int(nvml.nvmlDeviceGetMemoryInfo(handle).total) // MB
            capability = None
            with contextlib.suppress(nvml.NVMLError):
                major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
                capability = major + minor / 10
            driver = str(nvml.nvmlSystemGetDriverVersion())
            return _Gpu("cuda", name, memory_mb, driver, capability)
    return None


def _jetson() -> _Gpu | None:
    """The GPU of NVIDIA's boards without NVML, by the name in the device tree."""
    name = _read(_DEVICE_TREE / "model").rstrip("\0")
    if _is_hidden() or not re.search("NVIDIA|Jetson", name):
        return None
    return _Gpu("cuda", name, memory_bytes() // 2**21, "")


def amd_card() -> Path | None:
    """Return the folder in /sys of the AMD GPU with most memory, which is not the one in the processor."""
    if not _KFD.exists():
        return None
    cards = [c for c in _DRM.glob("card[0-9]*/device") if _read(c / "vendor") == _AMD_VENDOR]
    sizes = {c: size for c in sorted(cards) if (size := _read(c / "mem_info_vram_total")).isdigit()}
    return max(sizes, key=lambda card: int(sizes[card]), default=None)


def _amd() -> _Gpu | None:
    card = amd_card()
    if card is None:
        return None
    memory = int(_read(card / "mem_info_vram_total")) // MB
    name = _read(card / "product_name") or "AMD GPU"
    return _Gpu("rocm", name, memory, _read(Path("/sys/module/amdgpu/version")))


def _unseen() -> str:
    """Say that an NVIDIA GPU has a device node, but its driver does not answer; empty where there is none."""
    if _is_hidden() or not any(_DEVICES.glob("nvidia[0-9]*")):
        return ""
    return "an NVIDIA GPU is there, but its driver does not describe it: see `nvidia-smi`"


def _is_hidden() -> bool:
    """Whether the user lets CUDA see no GPU."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")


def _read(path: Path) -> str:
    """Return what a small file of the kernel says, stripped; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _unusable(kind: Kind, name: str, torch: str) -> str:
    """Say why the installed torch, of this version, cannot use a GPU; empty where it can.

    An NVIDIA GPU is taken where torch does not say what it is built for. An AMD one is not: most of them are the
    graphics of a processor, with a torch built without ROCm.
    """
    build = _torch_build(torch)
    if kind in ("mps", build) or (kind == "cuda" and not build):
        return ""
    if not torch:
        return f"`{name}` is there, but torch is not installed"
    if build is None:
        return f"`{name}` is there, but torch {torch} does not say that it is built for ROCm"
    words = {"cuda": "NVIDIA GPUs", "rocm": "AMD GPUs"}.get(build, "the CPU")
    return f"`{name}` is there, but torch {torch} is built for {words} only"


def _torch_build(version: str) -> Kind | None:
    """Return what the installed torch is built for, None when it does not say.

    The version may not tell: packages on PyPI bear no `+cu128`, `+rocm6.4` or `+cpu`. The text of torch/version.py
    does, and reading it is not importing it.
    """
    if "+rocm" in version:
        return "rocm"
    if version.endswith("+cpu"):
        return "cpu"
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    said = dict(re.findall(r"^(cuda|hip)\b[^=\n]*= *(\S+)", text, re.MULTILINE))
    if said.get("hip", "None") != "None":
        return "rocm"
    if said.get("cuda", "None") != "None":
        return "cuda"
    return "cpu" if said else None


@contextlib.contextmanager
def _nvml() -> Iterator[Any]:
    """NVML, started and shut down again; None where there is no NVIDIA driver."""
    try:
        import pynvml
    except ImportError:
        yield None
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _cpu_name() -> str:
    if platform.system() == "Darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _sysctl(name: str) -> str:
    try:
        done = subprocess.run(
            ["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
