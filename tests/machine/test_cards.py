"""Cards this project has not run on, by what their drivers answer according to the makers' documentation.

NVIDIA: NVML API reference (nvmlDeviceGetMemoryInfo, nvmlDeviceGetMigMode, nvmlDeviceGetMigDeviceHandleByIndex,
nvmlDeviceGetCudaComputeCapability, nvmlDeviceGetComputeRunningProcesses), CUDA on WSL user guide, DGX Spark user
guide, README of the Linux driver (/proc/driver/nvidia/gpus). AMD: amdgpu of the kernel documentation
(mem_info_vram_total, mem_info_vram_used, product_name) and HIP's environment variables. Nothing here ran on a card.
"""

import os
import subprocess
import sys
import types

import pytest

from autoresearch.bootstrap import presets
from autoresearch.machine import environment, hardware
from autoresearch.sandbox import machine_paths
from autoresearch.trial import telemetry

GB = 1 << 30
RAM = 128 * GB


class NotSupportedError(Exception):
    """NVML_ERROR_NOT_SUPPORTED, and every other error of NVML."""


def refuse(*_):
    raise NotSupportedError


class Nvml(types.SimpleNamespace):
    """A driver with these cards; what a card does not state is not supported."""

    NVMLError = NotSupportedError
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self, *cards):
        super().__init__(cards=cards, listed=refuse)

    nvmlInit = nvmlShutdown = lambda *_: None

    def nvmlSystemGetDriverVersion(self):
        return "580.95"

    def nvmlDeviceGetCount(self):
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.cards[index] if index < len(self.cards) else refuse()

    def nvmlDeviceGetHandleByUUID(self, uuid):
        every = [c for card in self.cards for c in (card, *filter(None, card.get("slices", [])))]
        return next((c for c in every if c["uuid"] == uuid), None) or refuse()

    def nvmlDeviceGetName(self, card):
        return card["name"]

    def nvmlDeviceGetUUID(self, card):
        return card["uuid"]

    def nvmlDeviceGetMemoryInfo(self, card):
        if "memory" not in card:
            refuse()
        return types.SimpleNamespace(total=card["memory"], used=card.get("used", 0))

    def nvmlDeviceGetCudaComputeCapability(self, card):
        return card["capability"] if "capability" in card else refuse()

    def nvmlDeviceGetMigMode(self, card):
        return [int(bool(card["slices"])), 0] if "slices" in card else refuse()

    def nvmlDeviceGetMaxMigDeviceCount(self, _card):
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card, index):
        found = card["slices"][index] if index < len(card["slices"]) else None
        return found or refuse()

    def nvmlDeviceGetComputeRunningProcesses(self, card):
        return self.listed(card)


def card(name, memory_mb, capability, uuid="GPU-1", **more):
    memory = {} if memory_mb is None else {"memory": memory_mb << 20}
    return {"name": name, "uuid": uuid, "capability": capability, **memory, **more}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Return a function that gives this machine a driver and describes it."""
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hardware, "memory_bytes", lambda: RAM)
    monkeypatch.setattr(hardware, "package_version", lambda _name: "2.13.0")
    monkeypatch.setattr(hardware, "_torch_build", lambda _version: "cuda")
    monkeypatch.setattr(hardware.platform, "system", lambda: "Linux")
    for name in ("_DEVICES", "_DRM", "_DEVICE_TREE", "_KFD"):
        monkeypatch.setattr(hardware, name, tmp_path / name)

    def look(nvml):
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        found = hardware.describe.__wrapped__("auto")
        return found, presets.choose_preset(found).name

    return look


A100_SLICES = [
    None,
    card("NVIDIA A100-SXM4-80GB MIG 2g.20gb", 19_968, (8, 0), "MIG-2"),
    card("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9_728, (8, 0), "MIG-3"),
]


@pytest.mark.parametrize(
    ("found", "memory_mb", "preset"),
    [
        (card("NVIDIA GB10", None, (12, 1)), 65_536, "24gb"),
        (card("NVIDIA A100-SXM4-80GB", 81_920, (8, 0), slices=A100_SLICES), 19_968, "12gb"),
        (card("NVIDIA A100-SXM4-80GB", 81_920, (8, 0), slices=[]), 81_920, "80gb"),
        (card("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97_887, (12, 0)), 97_887, "80gb"),
        (card("NVIDIA H20", 97_871, (9, 0)), 97_871, "80gb"),
        (card("NVIDIA H100 80GB HBM3", 81_559, (9, 0)), 81_559, "h100"),
        (card("NVIDIA H100 of a kind not listed", 95_830, (9, 0)), 95_830, "h100"),
        (card("NVIDIA A100 of a kind not listed", 81_920, (8, 0)), 81_920, "80gb"),
        (card("NVIDIA B200", 183_359, (10, 0)), 183_359, "h100"),
        (card("NVIDIA GeForce RTX 4090", 24_564, (8, 9)), 24_564, "24gb"),
        (card("NVIDIA L4", 23_034, (8, 9)), 23_034, "24gb"),
        (card("Tesla T4", 15_360, (7, 5)), 15_360, "turing"),
        (card("Tesla V100-SXM2-32GB", 32_768, (7, 0)), 32_768, "turing"),
        (card("NVIDIA GeForce RTX 2080 Ti", 11_264, (7, 5)), 11_264, "turing"),
        (card("NVIDIA GeForce GTX 1650", 4_096, (7, 5)), 4_096, "turing"),
        (card("NVIDIA GeForce RTX 3050 Laptop GPU", 4_096, (8, 6)), 4_096, "8gb"),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_a_card_is_seen_for_what_it_is(machine, found, memory_mb, preset):
    seen, chosen = machine(Nvml(found))
    assert (seen.kind, seen.memory_mb, chosen) == ("cuda", memory_mb, preset)
    if found.get("slices", False):
        assert seen.name.endswith("MIG 2g.20gb")
        assert seen.peak_tflops is None
    else:
        assert seen.name == found["name"]
        assert seen.capability == found["capability"][0] + found["capability"][1] / 10


def test_a_slice_named_by_the_user_is_that_one(machine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-3")
    whole = card("NVIDIA A100-SXM4-80GB", 81_920, (8, 0), slices=A100_SLICES)
    assert machine(Nvml(whole))[0].memory_mb == 9_728
    assert machine(Nvml(card("A100", 81_920, (8, 0), slices=[None] * 7, uuid="x")))[1] == "cpu"


def test_a_jetson_without_nvml_is_seen_by_its_device_tree(machine):
    hardware._DEVICE_TREE.mkdir()
    (hardware._DEVICE_TREE / "model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    seen, chosen = machine(None)
    assert (seen.name, seen.kind) == ("NVIDIA Jetson AGX Orin Developer Kit", "cuda")
    assert chosen == "24gb"
    (hardware._DEVICE_TREE / "model").write_bytes(b"Raspberry Pi 5 Model B\0")
    assert machine(None)[1] == "cpu"


def test_a_node_without_a_driver_that_answers_is_said(machine, monkeypatch):
    hardware._DEVICES.mkdir()
    (hardware._DEVICES / "nvidia0").touch()
    assert "its driver does not describe it" in machine(None)[0].note
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine(None)[0].note == ""


TWO = (
    card("NVIDIA GeForce RTX 3060", 12_288, (8, 6), "GPU-a"),
    card("NVIDIA GeForce RTX 4090", 24_564, (8, 9), "GPU-b"),
)


@pytest.mark.parametrize(
    ("cards", "visible", "own"),
    [
        (TWO, None, "GPU-a"),
        (TWO, "1", "GPU-b"),
        (TWO, "1,0", "GPU-b"),
        (TWO, "GPU-b,GPU-a", "GPU-b"),
        (TWO, "", ""),
        (TWO[:1], None, None),
        (TWO[:1], "0", "0"),
    ],
)
def test_a_trial_sees_one_gpu_only(machine, monkeypatch, cards, visible, own):
    machine(Nvml(*cards))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert environment.torch_environment().get("CUDA_VISIBLE_DEVICES") == own


@pytest.mark.parametrize(("visible", "own"), [(None, "0"), ("1", "1"), ("1,0", "1")])
def test_a_trial_on_amd_sees_one_gpu_only(machine, monkeypatch, visible, own):
    hardware._KFD.touch()
    if visible is not None:
        monkeypatch.setenv("HIP_VISIBLE_DEVICES", visible)
    assert environment.torch_environment()["HIP_VISIBLE_DEVICES"] == own


def test_the_sandbox_shows_the_node_of_that_gpu_alone(monkeypatch, tmp_path):
    dev, proc = tmp_path / "dev", tmp_path / "gpus"
    dev.mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (dev / name).touch()
    for place, uuid, minor in (("0000:01:00.0", "GPU-a", 0), ("0000:41:00.0", "GPU-b", 1)):
        (proc / place).mkdir(parents=True)
        text = f"Model: \t\t NVIDIA\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"
        (proc / place / "information").write_text(text)
    monkeypatch.setattr(machine_paths, "_DEVICES", dev)
    monkeypatch.setattr(machine_paths, "_NVIDIA_GPUS", proc)

    def shown(visible=""):
        return [node.name for node in machine_paths.gpu_nodes(visible)]

    assert shown("GPU-b") == ["nvidia1", "nvidiactl", "nvidia-uvm"]
    assert shown() == shown("GPU-unknown") == ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"]


@pytest.mark.parametrize(
    ("nodes", "calls"), [("nvidiactl", 1), ("nvidiactl nvidia-uvm", 0), ("", 0)]
)
def test_after_a_restart_nvidias_helper_makes_the_missing_node(monkeypatch, tmp_path, nodes, calls):
    for name in nodes.split():
        (tmp_path / name).touch()
    called = []
    monkeypatch.setattr(environment.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(environment.subprocess, "run", lambda argv, **_: called.append(argv))
    environment.make_gpu_nodes(tmp_path)
    assert called == [["/usr/bin/nvidia-modprobe", "-c0", "-u"]] * calls


# --------------------------------------------------------------------- memory of a trial


@pytest.fixture
def meter(machine, monkeypatch):
    """Return a function that gives a meter of pid 7 on a machine with this driver."""
    monkeypatch.setattr(telemetry, "tree_pids", lambda _pid: {7})

    def make(nvml):
        machine(nvml)
        found = telemetry.MemoryMeter(1)
        found.watch_device("cuda")
        return found

    return make


def test_memory_where_wsl2_lists_no_processes_is_what_the_device_gained(meter):
    gpu = card("NVIDIA GeForce RTX 4090", 24_564, (8, 9), used=1000 << 20)
    found = meter(Nvml(gpu))
    gpu["used"] = 9000 << 20
    found.sample(is_last=True)
    assert (found.last_mb, found.peak_mb) == (8000.0, 8000.0)


def test_unified_memory_is_metered_by_process(meter):
    nvml = Nvml(card("NVIDIA GB10", None, (12, 1)))
    nvml.listed = lambda _: [types.SimpleNamespace(pid=7, usedGpuMemory=5 * GB)]
    found = meter(nvml)
    found.sample(is_last=True)
    assert found.peak_mb == 5 * 1024


def test_memory_of_an_amd_gpu_is_its_own_and_not_the_hosts(meter, machine):
    hardware._KFD.touch()
    for place, total, used in (("card0", GB // 2, 0), ("card1", 192 * GB, 2 * GB)):
        folder = hardware._DRM / place / "device"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text("0x1002\n")
        (folder / "mem_info_vram_total").write_text(f"{total}\n")
        (folder / "mem_info_vram_used").write_text(f"{used}\n")
    found = meter(None)
    assert hardware._amd().memory_mb == 192 * 1024  # not the graphics of the processor
    (folder / "mem_info_vram_used").write_text(f"{9 * GB}\n")
    found.sample(is_last=True)
    assert found.peak_mb == 7 * 1024


def test_a_gpu_that_cannot_be_metered_has_no_memory_rather_than_the_hosts(meter):
    found = meter(Nvml(card("NVIDIA GB10", None, (12, 1))))
    found.note_resident(3000.0)
    found.sample(is_last=True)
    assert found.peak_mb is None


@pytest.mark.parametrize("never", [False, True])
def test_judging_waits_until_the_driver_has_freed_the_trials_memory(meter, monkeypatch, never):
    gpu = card("NVIDIA H100 80GB HBM3", 81_559, (9, 0), used=500 << 20)
    found = meter(Nvml(gpu))
    gpu["used"] = 70 * GB
    found.sample(is_last=True)
    clock = [0.0]

    def sleep(seconds):
        clock[0] += seconds
        if not never:
            gpu["used"] = max(500 << 20, gpu["used"] - 10 * GB)

    monkeypatch.setattr(telemetry.time, "sleep", sleep)
    monkeypatch.setattr(telemetry.time, "monotonic", lambda: clock[0])
    found.wait_until_freed()
    assert (gpu["used"] > 4 * GB) == never
    assert clock[0] <= 3.1


def test_doctor_asks_torch_for_the_same_gpu(machine, monkeypatch):
    from autoresearch.bootstrap import doctor

    machine(Nvml(*TWO))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    seen = {}

    def fake(argv, *, env, **_options):
        seen.update(env)
        return subprocess.CompletedProcess(argv, 1, "", "no")

    monkeypatch.setattr(doctor.subprocess, "run", fake)
    list(doctor._torch(doctor._State(is_quick=False)))
    assert seen["CUDA_VISIBLE_DEVICES"] == "GPU-b"
    assert seen["PATH"] == os.environ["PATH"]
