"""The checks of `autoresearch doctor`: one finding for each thing a session needs.

A check never raises and never hangs: torch is asked in separate processes, with a time limit. Nothing is
changed on the machine but the cache of measured attention kernels.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from autoresearch.bootstrap import flat, presets
from autoresearch.config import Loaded, load_config
from autoresearch.errors import AutoresearchError, PrerequisiteError
from autoresearch.machine import hardware as machine
from autoresearch.machine.environment import outside_environment
from autoresearch.machine.hardware import Hardware
from autoresearch.paths import (
    CONFIG_NAME,
    RunDirectory,
    cache_directory,
    find_run_directory,
    python_command,
)
from autoresearch.types import GB, MB_PER_GB, Finding
from autoresearch.util.files import read_file
from autoresearch.util.text import one_line, redact

KEY_VARIABLES = (
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "OPENROUTER_API_KEY",
    "MISTRAL_API_KEY",
    "DEEPSEEK_API_KEY",
    "GROQ_API_KEY",
    "XAI_API_KEY",
    "TOGETHERAI_API_KEY",
    "FIREWORKS_AI_API_KEY",
    "AZURE_API_KEY",
    "AWS_ACCESS_KEY_ID",
    "HF_TOKEN",
)
_ASK_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
mps = torch.backends.mps.is_available()
found = dict(version=torch.__version__, cuda=torch.version.cuda, hip=torch.version.hip,
    is_cuda=cuda, is_mps=mps, threads=torch.get_num_threads())
if cuda:
    p = torch.cuda.get_device_properties(0)
    found.update(name=p.name, capability=f"{p.major}.{p.minor}", memory_mb=p.total_memory >> 20,
        is_bf16=torch.cuda.is_bf16_supported(including_emulation=False))
device = "cuda" if cuda else "mps" if mps else "cpu"
x = torch.randn(256, 256, device=device)
found["sum"] = float((x @ x).sum())
print(json.dumps(found))
"""
_TORCH_SECONDS = 120.0
_MIN_CACHE_GB = 3.0
_MIN_STATE_GB = 2.0
_MAX_LOAD = 0.5
"""Share of the cores that others may use above which `doctor` warns."""


@dataclass
class _State:
    """What earlier checks found for later ones."""

    is_quick: bool
    run_directory: RunDirectory | None = None
    loaded: Loaded | None = None
    is_trusted: bool = True
    hardware: Hardware | None = None
    torch: dict[str, Any] = field(default_factory=dict)

    @property
    def is_program(self) -> bool:
        """Whether the task here has neither text nor attention kernels."""
        return self.loaded is not None and self.loaded.config.task.kind == "program"


def examine(*, is_quick: bool = False, start: Path | None = None) -> Iterator[Finding]:
    """Yield the findings one by one, in an order in which later ones build on earlier.

    Args:
        is_quick: Leave out what takes long or costs something: starting torch, measuring attention, asking a provider.
        start: Where to look for a run directory (default: the current folder).
    """
    state = _State(is_quick)
    checks: tuple[tuple[str, Callable[[_State], Iterator[Finding]]], ...] = (
        ("python", _python),
        ("torch", _torch),
        ("device", _device),
        ("bf16", _bf16),
        ("compiler", _compiler),
        ("git", _git),
        ("sandbox", _sandbox),
        ("run directory", lambda s: _run_directory(s, start)),
        ("attention", _attention),
        ("disk", _disk),
        ("data", _data),
        ("keys", _keys),
        ("proposer", _proposer),
    )
    for name, check in checks:
        try:
            yield from check(state)
        except AutoresearchError as exc:
            yield Finding(name, "fail", redact(exc.message), exc.hint or "")
        except Exception as exc:  # noqa: BLE001 - a check that breaks is a finding, not an end
            said = one_line(redact(f"{type(exc).__name__}: {exc}"), 200)  # or a command of 10 kB
            yield Finding(name, "fail", f"could not be checked: {said}")


# ------------------------------------------------------------------------------------ checks


def _python(state: _State) -> Iterator[Finding]:  # noqa: ARG001
    version = ".".join(map(str, sys.version_info[:3]))
    executable = python_command()[0]
    data = {"version": version, "executable": executable}
    yield Finding("python", "ok", f"{version} at {executable}", data=data)


def _torch(state: _State) -> Iterator[Finding]:
    version = machine.package_version("torch")
    if not version:
        yield Finding("torch", "fail", "not installed", "`pip install torch`")
        return
    if state.is_quick:
        yield Finding("torch", "ok", f"{version}, not started (`--quick`)")
        return
    began = time.monotonic()
    try:
        done = subprocess.run(
            python_command("-c", _ASK_TORCH),
            env=outside_environment(),
            capture_output=True,
            text=True,
            timeout=_TORCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        hint = "look at `nvidia-smi`; a GPU that hangs needs a restart of the machine"
        yield Finding("torch", "fail", f"{version} does not answer in {_TORCH_SECONDS:.0f} s", hint)
        return
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        yield Finding("torch", "fail", f"{version} does not work: {last[0]}", "reinstall it")
        return
    state.torch = json.loads(done.stdout.splitlines()[-1])
    seconds = time.monotonic() - began
    found = state.torch
    build = "CPU build"
    if found["cuda"]:
        build = f"CUDA {found['cuda']} build"
    elif found["hip"]:
        build = f"ROCm {found['hip']} build"
    text = f"{found['version']}, {build}, first matmul took {seconds:.1f} s"
    yield Finding("torch", "ok", text, data={**found, "seconds": round(seconds, 2)})


def _device(state: _State) -> Iterator[Finding]:
    found = state.hardware = machine.describe()
    memory = f"{(found.memory_mb or 0) / MB_PER_GB:.0f} GB"
    data = found.to_json()
    if found.note:
        hint = "to use it, install a torch built for it: https://pytorch.org/get-started/locally/"
        yield Finding("device", "warn", found.note, hint, data)
    elif found.kind in ("cuda", "rocm") and not (state.is_quick or state.torch.get("is_cuda")):
        text = f"`{found.name}` is there, but torch cannot use it"
        hint = (
            f"driver `{found.driver}` may be too old for torch `{found.torch}`: update the driver"
        )
        yield Finding("device", "fail", text, hint, data)
    elif found.kind == "mps" and not (state.is_quick or state.torch.get("is_mps")):
        hint = "needs macOS 14 and an arm64 Python"
        yield Finding("device", "warn", f"`{found.name}`, but torch has no MPS", hint, data)
    elif found.kind == "cpu":
        text = f"no GPU; {found.cores} cores of {found.cpu}, {memory}"
        yield Finding("device", "ok", text, data=data)
    else:
        peak = f", {found.peak_tflops:.0f} TFLOPS bf16" if found.peak_tflops else ""
        text = f"{found.name}, {memory}, driver {found.driver}{peak}"
        yield Finding("device", "ok", text, data=data)
    choice = presets.choose_preset(found)
    preset = presets.load_preset(choice.name)
    budget = preset.settings["trial"]["budget_seconds"]
    text = f"`init` takes `{choice.name}`: {preset.num_params / 1e6:.1f} M parameters,"
    text += f" about {preset.memory_gb:g} GB, {budget:g} s a trial"
    yield Finding("preset", "ok", text, data={"name": choice.name, "memory_gb": preset.memory_gb})
    yield from _busy(found)


def _busy(found: Hardware) -> Iterator[Finding]:
    """Who else uses the device, and whether it is slowed down."""
    if found.kind in ("cpu", "mps") and hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        data = {"load": round(load, 2), "cores": found.cores}
        text = f"load {load:.1f} on {found.cores} cores"
        if load > max(0.5, _MAX_LOAD * found.cores):
            hint = "end other work: trials compete with it, and their numbers become noisy"
            yield Finding("cpu use", "warn", text, hint, data)
        else:
            yield Finding("cpu use", "ok", text, data=data)
    if found.kind != "cuda":
        return
    others = machine.gpu_processes()
    if others:
        names = ", ".join(f"{p.name} ({p.pid})" for p in others[:4])
        hint = "end them: a shared GPU makes every number wrong"
        yield Finding(
            "gpu use", "warn", f"used by {names}", hint, {"pids": [p.pid for p in others]}
        )
    status = machine.gpu_status()
    if status is None:
        return
    data = asdict(status)
    clock = f"{status.clock_mhz} of {status.max_clock_mhz} MHz"
    text = f"{status.temperature_c} C, {clock}"
    if status.throttled_by:
        hint = "see `nvidia-smi -q -d PERFORMANCE`"
        text = f"slowed down by {', '.join(status.throttled_by)}: {text}"
        yield Finding("gpu clocks", "warn", text, hint, data)
    else:
        yield Finding("gpu clocks", "ok", text, data=data)


def _bf16(state: _State) -> Iterator[Finding]:
    if not state.torch.get("is_cuda"):
        return
    elif state.torch["is_bf16"]:
        yield Finding("bf16", "ok", f"in hardware (compute capability {state.torch['capability']})")
    else:
        text = f"not in hardware (compute capability {state.torch['capability']}), float32 is used"
        yield Finding("bf16", "warn", text, "expect a quarter of the speed of a newer card")


def _compiler(state: _State) -> Iterator[Finding]:
    if not state.torch.get("is_cuda"):
        return
    found = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), "")
    triton = machine.package_version("triton") or machine.package_version("pytorch-triton-rocm")
    if not triton:
        hint = "install torch with its dependencies: `pip install --force-reinstall torch`"
        yield Finding("compiler", "fail", "`triton` is missing, torch.compile cannot work", hint)
    elif not found:
        hint = "`sudo apt-get install gcc` (or your system's C compiler)"
        yield Finding("compiler", "fail", "no C compiler, torch.compile cannot work", hint)
    elif not (header := Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        # Triton builds its link to the driver against it when the first kernel is compiled.
        version = ".".join(map(str, sys.version_info[:2]))
        hint = f"`sudo apt-get install python{version}-dev` (or your system's headers of Python)"
        text = f"no `{header}`, torch.compile cannot work"
        yield Finding("compiler", "fail", text, hint)
    else:
        data = {"compiler": found, "triton": triton}
        yield Finding("compiler", "ok", f"{found}, triton {triton}", data=data)


def _attention(state: _State) -> Iterator[Finding]:
    from autoresearch.tasks.gpt.attention import choose_attention, stored_attention

    if state.is_program:
        return
    if state.hardware is None or not (state.torch or state.is_quick):
        yield Finding("attention", "skip", "torch does not work")
        return
    context = state.loaded.config.trial.max_seq_len if state.loaded else 2048
    is_busy = state.hardware.kind == "cuda" and bool(machine.gpu_processes())
    if state.is_quick or (state.torch.get("is_cuda") and is_busy):
        stored = stored_attention(state.hardware, max_seq_len=context)
        why = "`--quick`" if state.is_quick else "the GPU is in use"
        if stored is None:
            yield Finding("attention", "skip", f"not measured ({why})")
            return
        found = stored
    else:
        found = choose_attention(state.hardware, max_seq_len=context, is_fresh=True)
    data = asdict(found)
    if not found.full:
        yield Finding("attention", "ok", f"{found.choice} ({found.source})", data=data)
        return
    full = ", ".join(f"{k} {v:.2f}" for k, v in sorted(found.full.items(), key=lambda i: i[1]))
    windowed = ", ".join(
        f"{k} {v:.2f}" for k, v in sorted(found.windowed.items(), key=lambda i: i[1])
    )
    text = f"{found.choice} (ms: {full}; with a window: {windowed})"
    if found.windowed and min(found.windowed.values()) > min(found.full.values()):
        hint = "a window is slower than none here: set `SHORT_WINDOW = 0` in train.py"
        yield Finding("attention", "warn", text, hint, data)
    else:
        yield Finding("attention", "ok", text, data=data)


def _git(state: _State) -> Iterator[Finding]:  # noqa: ARG001
    from autoresearch.record.git_command import FLUSHING_GIT, git_version

    found = git_version()
    version = ".".join(map(str, found))
    text, data = f"{version} at {shutil.which('git')}", {"version": version}
    if found < FLUSHING_GIT:
        text += " does not flush refs: a power cut may lose the last events"
        hint = f"install git {'.'.join(map(str, FLUSHING_GIT))} or newer"
        yield Finding("git", "warn", text, hint, data)
    else:
        yield Finding("git", "ok", text, data=data)


def _sandbox(state: _State) -> Iterator[Finding]:  # noqa: ARG001
    from autoresearch.sandbox import report

    for backend in report():
        data = {
            "is_chosen": backend.is_chosen,
            "is_working": backend.is_working,
            "guarantees": dict(backend.guarantees),
        }
        contained = [key for key, given in backend.guarantees.items() if given]
        lacking = [key for key, given in backend.guarantees.items() if not given]
        text = backend.detail
        if contained:
            text += f"; keeps trials from: {', '.join(contained)}"
            text += f"; not from: {', '.join(lacking)}" if lacking else ""
        status: Literal["ok", "warn", "fail", "skip"] = "ok" if backend.is_working else "skip"
        if backend.name == "none":
            if not backend.is_chosen:
                continue
            status = "fail"
            text = "none works: `run` refuses unless `--unsafe-no-sandbox` is given"
        if backend.is_chosen and backend.name != "none":
            text = f"chosen; {text}"
        hint = backend.hint
        if hint and status == "skip":
            status = "warn"
        yield Finding(f"sandbox {backend.name}", status, text, hint, data)


def _run_directory(state: _State, start: Path | None) -> Iterator[Finding]:
    from autoresearch.bootstrap.places import check_places
    from autoresearch.record.git import Repository
    from autoresearch.record.record import Record
    from autoresearch.rundir.trust import refusal, untrusted

    try:
        state.run_directory = find_run_directory(start)
    except AutoresearchError:
        state.loaded = load_config(None)
        hint = "make one with `autoresearch init myrun`"
        yield Finding("run directory", "skip", "the current folder is in none", hint)
        return
    state.loaded = load_config(state.run_directory)
    try:
        check_places(state.run_directory, state.loaded.config)
    except PrerequisiteError as exc:
        yield Finding("places", "fail", exc.message, exc.hint or "")
    Record.open(state.run_directory).close()
    num_changed = len(state.loaded.changed())
    text = f"{state.run_directory.root}, {num_changed} settings differ from the defaults"
    yield Finding("run directory", "ok", text, data={"path": str(state.run_directory.root)})
    if lines := untrusted(state.run_directory, state.loaded):
        state.is_trusted = False
        error = refusal(lines)
        yield Finding("trust", "fail", error.message, error.hint or "", {"lines": lines})
    first = state.run_directory.root / state.loaded.config.task.editable[0]
    if not first.is_file():
        yield Finding(first.name, "fail", f"`{first.name}` is missing", "`autoresearch init .`")
    root = state.run_directory.root
    with Repository.open(root) as repository:
        head = repository.ref("HEAD")
        known = repository.files_at(head) if head else {}
        flat.check(read_file(first), known, root, first.name)


def _disk(state: _State) -> Iterator[Finding]:
    places = [("disk cache", cache_directory(), _MIN_CACHE_GB)]
    if state.run_directory is not None:
        places.append(("disk run", state.run_directory.root, _MIN_STATE_GB))
    for name, path, least in places:
        there = path
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free / GB
        data = {"path": str(path), "free_gb": round(free, 1)}
        text = f"{free:.0f} GB free at {path}"
        if not there.is_dir():
            hint = "delete it, or set AUTORESEARCH_CACHE_DIR to another folder"
            yield Finding(name, "fail", f"{there} is a file, not a folder", hint, data)
        elif not os.access(there, os.W_OK):
            hint = "make it writable"
            hint += ", or set AUTORESEARCH_CACHE_DIR" if name == "disk cache" else ""
            yield Finding(name, "fail", f"{path} cannot be written", hint, data)
        elif free < least:
            yield Finding(name, "warn", text, f"free {least:.0f} GB there", data)
        else:
            yield Finding(name, "ok", text, data=data)


def _data(state: _State) -> Iterator[Finding]:
    if state.loaded is None:
        yield Finding("data", "skip", "the configuration could not be read")
        return
    if state.run_directory is None:
        yield Finding("data", "skip", "no run directory")
        return
    if state.is_program:
        return
    from autoresearch.tasks.gpt.data.prepare import open_dataset

    source = state.loaded.config.data.source
    dataset = open_dataset(state.loaded.config)
    text = f"{source}, vocabulary {dataset.vocab_size}; counting tokens alone scores {dataset.unigram_bpb:.2f}"
    if dataset.is_visible:
        text += "; validation text is readable inside the sandbox"
    yield Finding("data", "ok", text, data={"key": dataset.key, "path": str(dataset.path)})


def _keys(state: _State) -> Iterator[Finding]:
    names = [name for name in KEY_VARIABLES if os.environ.get(name)]
    wanted = state.loaded.config.proposer.api_key_env if state.loaded else ""
    if wanted and os.environ.get(wanted) and wanted not in names:
        names.append(wanted)
    data = {"present": names}
    if wanted and wanted not in names:
        hint = f"`export {wanted}=...`"
        yield Finding("keys", "fail", f"`{wanted}` is not set", hint, data)
    elif names:
        yield Finding("keys", "ok", f"set: {', '.join(names)}", data=data)
    else:
        yield Finding("keys", "skip", "none set; `search` and local models need none", data=data)


def _proposer(state: _State) -> Iterator[Finding]:
    if state.loaded is None:
        yield Finding("proposer", "skip", "the configuration could not be read")
        return
    from autoresearch.proposer.registry import asks_model, kinds_of, make_proposer

    if not state.is_trusted:
        yield Finding("proposer", "skip", f"not asked: `{CONFIG_NAME}` is not trusted")
        return
    kinds = kinds_of(state.loaded.config.proposer)
    kind = " and ".join(kinds)
    settings = state.loaded.config.proposer
    if asks_model(settings) and not settings.model:
        hint = "`autoresearch run --model NAME`, or `model` under [proposer]"
        yield Finding("proposer", "fail", f"`{kind}` has no model to ask", hint)
        return
    if state.is_quick:
        yield Finding("proposer", "skip", f"`{kind}` not asked (`--quick`)")
        return
    from autoresearch.sandbox import choose

    config = state.loaded.config
    sandbox = None
    with contextlib.suppress(PrerequisiteError):  # Has its own finding.
        sandbox = choose(config.sandbox.backend)
    answer = make_proposer(config, sandbox=sandbox).check()
    yield Finding("proposer", "ok", answer, data={"kind": kind})
