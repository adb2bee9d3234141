"""What the machine is, without torch."""

import importlib.util
import json
import os
import subprocess
import sys
import types

import pytest

from autoresearch.bootstrap import doctor, presets
from autoresearch.errors import WorkError
from autoresearch.machine import environment, hardware
from autoresearch.paths import RunDirectory
from autoresearch.session import build
from autoresearch.tasks.gpt import attention
from autoresearch.trial import process, telemetry
from autoresearch.util import locks

NVIDIA = ("cuda", "NVIDIA L4", 23_034, "570.1")
RADEON = ("rocm", "AMD GPU", 512, "")
CUDA_BUILD = "cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n"
HIP_BUILD = "cuda: str | None = None\nhip: str | None = '6.4.43482'\n"
CPU_BUILD = "cuda = None\nhip = None\n"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Return a function that describes a machine with these GPUs and this torch."""

    def look(nvidia, amd, version, text="", device="auto"):
        (tmp_path / "version.py").write_text(text)
        spec = importlib.util.spec_from_file_location("torch", tmp_path / "__init__.py")
        monkeypatch.setattr(hardware.importlib.util, "find_spec", lambda _name: spec)
        monkeypatch.setattr(hardware, "package_version", lambda _name: version)
        monkeypatch.setattr(hardware.platform, "system", lambda: "Linux")
        monkeypatch.setattr(hardware, "_nvidia", lambda: nvidia and hardware._Gpu(*nvidia))
        monkeypatch.setattr(hardware, "_amd", lambda: amd and hardware._Gpu(*amd))
        return hardware.describe.__wrapped__(device)

    return look


@pytest.mark.parametrize(
    ("version", "text", "kind"),
    [
        ("2.13.0+rocm6.4", "", "rocm"),
        ("2.13.0", HIP_BUILD, "rocm"),
        ("2.13.0a0+git1234567", HIP_BUILD, "rocm"),
        ("2.13.0", CUDA_BUILD, "cpu"),
        ("2.13.0+cpu", HIP_BUILD, "cpu"),
        ("2.13.0", CPU_BUILD, "cpu"),
        ("2.13.0", "", "cpu"),
        ("", "", "cpu"),
    ],
)
def test_an_amd_gpu_counts_only_with_a_torch_for_it(machine, version, text, kind):
    found = machine(None, RADEON, version, text)
    assert found.kind == kind
    assert presets.choose_preset(found).name == kind
    assert ("`AMD GPU` is there, but torch" in found.note) == (kind == "cpu")


def test_the_note_says_what_torch_is_built_for(machine):
    note = machine(None, RADEON, "2.13.0", CUDA_BUILD).note
    assert note == "`AMD GPU` is there, but torch 2.13.0 is built for NVIDIA GPUs only"
    note = machine(NVIDIA, None, "2.13.0+cpu").note
    assert note == "`NVIDIA L4` is there, but torch 2.13.0+cpu is built for the CPU only"
    assert machine(None, RADEON, "").note == "`AMD GPU` is there, but torch is not installed"


@pytest.mark.parametrize(
    ("text", "kind"),
    [(CUDA_BUILD, "cuda"), ("", "cuda"), (HIP_BUILD, "rocm"), (CPU_BUILD, "cpu")],
)
def test_of_two_makers_the_one_torch_is_built_for(machine, text, kind):
    found = machine(NVIDIA, RADEON, "2.13.0", text)
    assert found.kind == kind
    assert bool(found.note) == (kind == "cpu")


@pytest.mark.parametrize(("device", "kind"), [("cuda", "cuda"), ("mps", "cpu"), ("cpu", "cpu")])
def test_a_device_asked_for_is_the_one_described(machine, device, kind):
    found = machine(NVIDIA, None, "2.13.0", CUDA_BUILD, device)
    assert (found.kind, found.note) == (kind, "")


def test_describe_is_json_and_names_the_machine():
    found = hardware.describe("cpu")
    assert found.kind == "cpu"
    assert found.cores >= 1
    assert found.ram_mb > 100
    assert found.name
    json.dumps(found.to_json())


def test_describing_imports_no_torch():
    code = (
        "import sys; from autoresearch.machine import hardware; hardware.describe();"
        "hardware.gpu_status(); hardware.gpu_processes(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_unknown_product_has_no_peak():
    assert hardware.peak_tflops("NVIDIA H100 80GB HBM3") == 989.4
    assert hardware.peak_tflops("NVIDIA GeForce RTX 4090") == 165.2
    assert hardware.peak_tflops("NVIDIA GeForce RTX 4090 Laptop GPU") is None
    assert hardware.peak_tflops("AMD EPYC") is None


def test_throttle_bits_are_words():
    assert hardware.throttle_words(0x1) == ()
    assert hardware.throttle_words(0x4 | 0x40) == ("power", "heat")
    assert hardware.throttle_words(0x8) == ("hardware",)


@pytest.fixture
def nvml(monkeypatch):
    """Stand in for NVML with two GPUs, of which 1024 and 2048 MB are used."""
    used = {"GPU-slow": 1 << 30, "GPU-fast": 2 << 30}
    fake = types.SimpleNamespace(
        NVMLError=LookupError,
        NVML_DEVICE_MIG_ENABLE=1,
        nvmlDeviceGetMigMode=lambda _: [0, 0],
        nvmlDeviceGetCount=lambda: len(used),
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetUUID=lambda handle: handle,
        nvmlDeviceGetHandleByIndex=lambda index: list(used)[index],
        nvmlDeviceGetHandleByUUID=lambda uuid: {name: name for name in used}[uuid],
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(used=used[handle]),
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [
            types.SimpleNamespace(pid=os.getpid(), usedGpuMemory=used[handle])
        ],
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


VISIBLE = [
    (None, "GPU-slow"),
    ("1", "GPU-fast"),
    ("1,0", "GPU-fast"),
    ("GPU-fast", "GPU-fast"),
    ("GPU-gone", None),
    ("", None),
    ("-1", None),
]


@pytest.mark.parametrize(("visible", "name"), VISIBLE)
def test_the_gpu_described_is_the_one_metered(nvml, monkeypatch, visible, name):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert hardware.gpu_handle(nvml) == name
    monkeypatch.setattr(telemetry, "tree_pids", lambda _pid: {os.getpid()})
    meter = telemetry.MemoryMeter(os.getpid())
    meter.watch_device("cuda")
    meter.sample(is_last=True)
    expected = {"GPU-slow": 1024.0, "GPU-fast": 2048.0}
    if name is None:  # the memory of the processes, no GPU's
        assert meter.peak_mb not in expected.values()
    else:
        assert meter.peak_mb == expected[name]


def test_memory_of_other_people_on_the_gpu_is_not_metered(nvml, monkeypatch):
    """What the device gained counts only where NVML does not know the pids of this machine."""
    listed, used = {}, [1000]
    monkeypatch.setattr(telemetry, "tree_pids", lambda _pid: {7})
    nvml.nvmlDeviceGetMemoryInfo = lambda _: types.SimpleNamespace(used=used[0] << 20)
    nvml.nvmlDeviceGetComputeRunningProcesses = lambda _: [
        types.SimpleNamespace(pid=pid, usedGpuMemory=mb << 20) for pid, mb in listed.items()
    ]
    meter = telemetry.MemoryMeter(1)
    meter.watch_device("cuda")

    def sampled(total, **pids):
        used[0] = total
        listed.clear()
        listed.update({int(name[1:]): mb for name, mb in pids.items()})
        meter.sample(is_last=True)
        return meter.last_mb, meter.peak_mb

    assert sampled(9000, _8=8000) == (8000.0, 8000.0)
    assert sampled(9300, _8=8000, _7=300) == (300.0, 300.0)
    assert sampled(9000, _8=8000) == (0.0, 300.0)


@pytest.mark.parametrize("visible", ["1", "GPU-fast"])
def test_a_gpu_has_one_lock_however_it_is_named(nvml, monkeypatch, tmp_path, visible):
    machine = types.SimpleNamespace(kind="cuda")
    with monkeypatch.context() as ours:
        ours.setattr(locks, "_GPU_LOCKS", tmp_path)
        ours.setenv("CUDA_VISIBLE_DEVICES", "1,0")
        with build.lock_device(machine, RunDirectory(tmp_path / "a")):
            ours.setenv("CUDA_VISIBLE_DEVICES", visible)
            other = build.lock_device(machine, RunDirectory(tmp_path / "b"))
            with pytest.raises(WorkError, match="another session trains on `GPU-fast`"), other:
                pass
            ours.setenv("CUDA_VISIBLE_DEVICES", "0")
            with build.lock_device(machine, RunDirectory(tmp_path / "b")):
                pass


@pytest.mark.parametrize(("chosen", "order"), [(None, "PCI_BUS_ID"), ("FASTEST_FIRST",) * 2])
def test_torch_counts_gpus_like_nvml_unless_a_person_says_otherwise(monkeypatch, chosen, order):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_DEVICE_ORDER", chosen)
    for made in (process.environment_for(3), environment.outside_environment()):
        assert made["CUDA_DEVICE_ORDER"] == order
        assert made["PATH"] == os.environ["PATH"]


def test_measuring_doctor_and_trials_have_one_environment(monkeypatch):
    """What the lab measures is what runs: of the user's variables the same come through."""
    monkeypatch.setenv("TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL", "1")
    monkeypatch.setenv("TORCH_LOGS", "+inductor")
    seen = {}

    class Started(Exception):
        pass

    def fake(argv, *, env, **_options):
        seen[argv[-1][:8]] = env
        raise Started

    monkeypatch.setattr(attention.subprocess, "Popen", fake)
    monkeypatch.setattr(doctor.subprocess, "run", fake)
    with pytest.raises(Started):
        attention._watch({}, {})
    with pytest.raises(Started):
        list(doctor._torch(doctor._State(is_quick=False)))
    trial = process.environment_for(3)
    assert len(seen) == 2
    for made in seen.values():
        assert made["TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL"] == "1"
        assert "TORCH_LOGS" not in made
        assert environment.torch_environment().items() <= made.items()
    assert environment.torch_environment().items() <= trial.items()


def test_who_else_uses_the_machine(monkeypatch):
    import psutil

    class Process:
        def __init__(self, pid, share):
            self.pid, self._shares = pid, iter((0.0, share))

        def cpu_percent(self):
            share = next(self._shares)
            if share is None:
                raise psutil.NoSuchProcess(self.pid)
            return share

        def name(self):
            return f"p{self.pid}"

    shares = {1: 3.0, 2: 90.0, 3: None, 4: 180.0, os.getpid(): 400.0}
    listed = [Process(pid, share) for pid, share in shares.items()]
    monkeypatch.setattr(hardware, "gpu_processes", list)
    monkeypatch.setattr(psutil, "process_iter", lambda: listed)
    assert hardware.who_else(0.0) == "p4 (4), p2 (2)"
    on_gpu = [hardware.GpuProcess(7, "python", None)]
    monkeypatch.setattr(hardware, "gpu_processes", lambda: on_gpu)
    assert hardware.who_else() == "python (7)"
