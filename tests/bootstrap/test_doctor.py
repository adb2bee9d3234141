"""`doctor`: one finding a thing, hints, exit codes, and no check that can break it."""

import contextlib
import dataclasses
import functools
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import jsonschema
import pytest

from autoresearch.bootstrap import doctor
from autoresearch.bootstrap.scaffold import scaffold
from autoresearch.cli import main
from autoresearch.machine import hardware as machine
from autoresearch.paths import RunDirectory
from autoresearch.record.record import Record
from autoresearch.sandbox import report, select
from autoresearch.tasks.gpt import attention
from autoresearch.ui.pages import listings as screen
from autoresearch.ui.pages.as_json import attributes, object_schema

HARDWARE = dataclasses.replace(machine.describe("cpu"), kind="cuda", name="NVIDIA H100 80GB HBM3")


def run(check, **values):
    state = doctor._State(is_quick=False)
    for name, value in values.items():
        setattr(state, name, value)
    return list(check(state))


@pytest.fixture
def quick_torch(monkeypatch):
    """Answer for torch without starting it."""
    answer = {"version": "2.13.0", "cuda": None, "hip": None, "is_cuda": False, "is_mps": False}
    code = f"import json; print(json.dumps({answer!r}))"
    monkeypatch.setattr(doctor, "_ASK_TORCH", code)


def invoke(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["doctor", *arguments])
    return SimpleNamespace(exit_code=code, stdout=out.getvalue(), stderr=err.getvalue())


def test_the_whole_of_it_on_this_machine(quick_torch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("--json")
    found = json.loads(result.stdout)
    finding = object_schema(attributes(doctor.Finding))
    keys = {
        "schema": {"const": 1},
        "exit_code": {"enum": [0, 3]},
        "findings": {"type": "array", "items": finding},
    }
    jsonschema.validate(found, object_schema(keys))
    assert result.exit_code == found["exit_code"]
    names = [f["name"] for f in found["findings"]]
    for name in ("python", "torch", "device", "attention", "git", "disk cache", "proposer"):
        assert name in names
    assert not [f for f in found["findings"] if "could not be checked" in f["text"]]


def test_a_check_that_hangs_does_not_print_its_command(quick_torch, tmp_path, monkeypatch):
    def hang(*_, **__):
        raise subprocess.TimeoutExpired(["bwrap", "00" * 5000], 20)

    monkeypatch.setattr("autoresearch.sandbox.select.run_sealable", hang)
    monkeypatch.setattr("autoresearch.machine.hardware.describe", hang)
    select.probe.cache_clear()
    found = examine(tmp_path)
    select.probe.cache_clear()
    assert (
        "did not answer in 20 s"
        in found["sandbox bubblewrap"].text + found["sandbox landlock"].text
    )
    assert "could not be checked: TimeoutExpired" in found["device"].text
    assert max(len(str(finding)) for finding in found.values()) < 3000


def test_who_ignores_the_end_of_its_children_starts_a_lab_that_does_not(tmp_path):
    ignored = functools.partial(signal.signal, signal.SIGCHLD, signal.SIG_IGN)
    line = [sys.executable, "-m", "autoresearch", "doctor", "--quick", "--json"]
    done = subprocess.run(
        line, cwd=tmp_path, preexec_fn=ignored, capture_output=True, text=True, check=False
    )
    found = {f["name"]: f for f in json.loads(done.stdout)["findings"]}
    assert found["git"]["status"] == "ok"
    for backend in report():
        if backend.is_chosen and backend.is_working and backend.name != "none":
            assert found[f"sandbox {backend.name}"]["text"].startswith("chosen; works")


def test_a_missing_thing_is_exit_code_3_with_its_hint(quick_torch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor.shutil, "which", lambda _name: None)
    result = invoke("--quick")
    assert result.exit_code == 3
    line = next(line for line in result.stdout.splitlines() if line.startswith("FAIL"))
    assert line.split()[:2] == ["FAIL", "git"]
    assert line.endswith("the program `git` is missing")
    assert "apt install git`" in result.stdout
    assert "missing: git" in result.stderr


@pytest.mark.parametrize(
    ("version", "status", "words"),
    [
        ("2.31.8", "fail", "is too old"),
        ("2.34.1", "warn", "does not flush refs"),
        ("2.36.0-rc1", "ok", "2.36.0 at"),
        ("2.50.1 (Apple Git-155)", "ok", "2.50.1 at"),
    ],
)
def test_the_version_of_git_is_judged(quick_torch, tmp_path, monkeypatch, version, status, words):
    (tmp_path / "git").write_text(f"#!/bin/sh\necho 'git version {version}'\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = {f.name: f for f in doctor.examine(is_quick=True, start=tmp_path)}["git"]
    assert (found.status, words in found.text) == (status, True)
    assert ("install git" in found.hint) == (status != "ok")


def examine(folder):
    return {f.name: f for f in doctor.examine(is_quick=True, start=folder)}


@pytest.fixture
def folder(tmp_path):
    """A run directory with a session and one setting."""
    (tmp_path / "autoresearch.toml").write_text("[trial]\nbudget_seconds = 5.0\n")
    with Record.create(RunDirectory(tmp_path), "t", ["autoresearch.toml"]):
        pass
    return tmp_path


def test_inside_a_run_directory_settings_and_data_are_looked_at(quick_torch, folder):
    found = examine(folder)
    assert found["run directory"].status == "ok"
    assert "1 settings differ" in found["run directory"].text
    assert found["train.py"].status == "fail"


def test_data_that_is_not_prepared_is_missing(quick_torch, folder, monkeypatch):
    (folder / "train.py").write_text("")
    found = examine(folder)
    assert (found["data"].status, found["data"].hint) == ("fail", "run `autoresearch prepare`")
    monkeypatch.chdir(folder)
    result = invoke("--quick")
    assert result.exit_code == 3
    assert "missing: " in result.stderr
    assert "data" in result.stderr


def test_a_run_directory_without_its_repository_is_made_one_by_the_hint(quick_torch, folder):
    shutil.rmtree(folder / ".git")
    found = examine(folder)["run directory"]
    assert found.status == "fail"
    assert found.text == f"`{folder}` is not a git repository"
    assert "`autoresearch init .`" in found.hint
    scaffold(folder, preset="cpu", tag="t")
    assert examine(folder)["run directory"].status == "ok"


def test_outside_a_run_directory_nothing_about_one_can_fail(quick_torch, tmp_path):
    found = examine(tmp_path)
    assert [found[name].status for name in ("run directory", "data")] == ["skip", "skip"]


def test_a_wrong_setting_is_a_finding(quick_torch, tmp_path):
    (tmp_path / "autoresearch.toml").write_text("[trial]\nbudget = 5.0\n")
    found = {f.name: f for f in doctor.examine(is_quick=True, start=tmp_path)}
    assert found["run directory"].status == "fail"
    assert "unknown setting" in found["run directory"].text
    assert found["data"].text == "the configuration could not be read"


def test_a_check_that_breaks_is_a_finding(quick_torch, monkeypatch, tmp_path):
    def broken():
        raise RuntimeError("no such bus")

    monkeypatch.setattr(machine, "describe", broken)
    found = {f.name: f for f in doctor.examine(is_quick=True, start=tmp_path)}
    assert found["device"].text == "could not be checked: RuntimeError: no such bus"


def test_torch_that_dies_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "_ASK_TORCH", "raise SystemExit('libcuda.so.1 not found')")
    (found,) = run(doctor._torch)
    assert found.status == "fail"
    assert "libcuda.so.1 not found" in found.text


def test_torch_that_hangs_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "_ASK_TORCH", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "_TORCH_SECONDS", 0.3)
    (found,) = run(doctor._torch)
    assert found.status == "fail"
    assert "does not answer" in found.text


def test_torch_is_asked_about_the_gpu_that_nvml_describes(monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    code = "import json, os; order = os.environ['CUDA_DEVICE_ORDER']"
    code += "; print(json.dumps({'version': order, 'cuda': None, 'hip': None}))"
    monkeypatch.setattr(doctor, "_ASK_TORCH", code)
    (found,) = run(doctor._torch)
    assert found.data["version"] == "PCI_BUS_ID"


def test_a_gpu_torch_cannot_use_is_a_failure(monkeypatch):
    monkeypatch.setattr(machine, "describe", lambda: HARDWARE)
    found = run(doctor._device, torch={"is_cuda": False})
    assert found[0].status == "fail"
    assert "update the driver" in found[0].hint


def test_a_gpu_beside_a_cpu_build_is_a_warning(monkeypatch):
    cpu = dataclasses.replace(HARDWARE, kind="cpu", note="`NVIDIA L4` is there, but ...")
    monkeypatch.setattr(machine, "describe", lambda: cpu)
    found = run(doctor._device, torch={"is_cuda": False})
    assert found[0].status == "warn"


def test_the_preset_and_the_load_of_a_processor_are_told(monkeypatch):
    cpu = dataclasses.replace(HARDWARE, kind="cpu", cores=4)
    monkeypatch.setattr(machine, "describe", lambda: cpu)
    for load, status in ((0.3, "ok"), (3.9, "warn")):
        monkeypatch.setattr(doctor.os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        _, preset, use = run(doctor._device, torch={"is_cuda": False})
        assert preset.text.startswith("`init` takes `cpu`: ")
        assert (use.name, use.status, use.text) == ("cpu use", status, f"load {load} on 4 cores")


def test_who_uses_the_gpu_and_what_slows_it(monkeypatch):
    monkeypatch.setattr(machine, "gpu_processes", lambda: [machine.GpuProcess(7, "ollama", 900.0)])
    status = machine.GpuStatus(80, 900, 1980, ("heat",))
    monkeypatch.setattr(machine, "gpu_status", lambda: status)
    use, clocks = doctor._busy(HARDWARE)
    assert use.text == "used by ollama (7)"
    assert clocks.status == "warn"
    assert clocks.text == "slowed down by heat: 80 C, 900 of 1980 MHz"


def test_an_old_gpu_is_told_about_bf16():
    (found,) = run(doctor._bf16, torch={"is_cuda": True, "is_bf16": False, "capability": "7.5"})
    assert found.status == "warn"


def test_a_compiler_needs_the_headers_of_python(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "package_version", lambda _name: "3.5.0")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(doctor.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    (found,) = run(doctor._compiler, torch={"is_cuda": True})
    assert found.status == "fail"
    assert found.text == f"no `{tmp_path / 'Python.h'}`, torch.compile cannot work"
    assert re.match(r"`sudo apt-get install python3\.\d+-dev` \(or ", found.hint)
    (tmp_path / "Python.h").touch()
    (found,) = run(doctor._compiler, torch={"is_cuda": True})
    assert (found.status, found.text) == ("ok", "cc, triton 3.5.0")
    assert run(doctor._compiler, torch={"is_cuda": False}) == []


def test_a_missing_key_is_named_never_shown(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    (found,) = run(doctor._keys)
    assert found.text == "set: OPENAI_API_KEY"
    assert "secret" not in json.dumps(found.to_json())


def test_measured_kernels_are_kept_and_found_again(monkeypatch, tmp_path):
    monkeypatch.setenv("AUTORESEARCH_CACHE_DIR", str(tmp_path))
    answer = {
        "choice": "cudnn+varlen",
        "full": {"cudnn": 1.0, "sdpa": 2.0},
        "windowed": {"varlen": 0.5},
        "refused": {},
    }
    asked = []

    def watch(values, _known):
        asked.append(values)
        return {**answer, "trying": ""}, ""

    monkeypatch.setattr(attention, "_watch", watch)
    first = attention.choose_attention(HARDWARE, max_seq_len=1024)
    second = attention.choose_attention(HARDWARE, max_seq_len=1024)
    assert (first.choice, first.source) == ("cudnn+varlen", "measured")
    assert (second.choice, second.source) == ("cudnn+varlen", "cached")
    assert asked == [{"device": "cuda", "context": 1024, "window": 128, "rows": 32}]
    other = dataclasses.replace(HARDWARE, driver="999")
    assert attention.choose_attention(other, max_seq_len=1024).source == "measured"


def test_a_package_of_kernels_that_comes_or_goes_is_measured_anew(monkeypatch, tmp_path):
    monkeypatch.setenv("AUTORESEARCH_CACHE_DIR", str(tmp_path))
    installed = {}
    monkeypatch.setattr(attention, "package_version", lambda name: installed.get(name, ""))

    def measure(_values):
        best = "fa4" if "flash-attn-4" in installed else "sdpa"
        return {"choice": f"{best}+folded", "full": {best: 1.0}, "windowed": {}, "refused": {}}

    monkeypatch.setattr(attention, "_measure", measure)
    assert attention.choose_attention(HARDWARE).choice == "sdpa+folded"
    installed["flash-attn-4"] = "4.0.0"
    assert attention.stored_attention(HARDWARE) is None
    assert attention.choose_attention(HARDWARE).choice == "fa4+folded"
    installed["nvidia-cutlass-dsl"] = "4.6.2"
    assert attention.choose_attention(HARDWARE).source == "measured"
    installed.clear()
    found = attention.choose_attention(HARDWARE)
    assert (found.choice, found.source) == ("sdpa+folded", "cached")


def test_measuring_really_on_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("AUTORESEARCH_CACHE_DIR", str(tmp_path))
    found = attention.choose_attention(
        machine.describe("cpu"),
        max_seq_len=64,
        shape={"rows": 1, "num_heads": 1, "head_size": 16},
    )
    assert found.source == "measured"
    assert set(found.full) == {"sdpa"}


def test_a_person_may_set_the_kernels(monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_ATTENTION", "flash+varlen")
    assert attention.choose_attention(HARDWARE).choice == "flash+varlen"


def test_lines_are_aligned_and_safe():
    finding = doctor.Finding("git", "fail", "not \x1b[31mfound", "`install it`")
    first, second = (line.plain for line in screen.render(finding))
    assert first == "FAIL  git                not found"
    assert second.strip() == "hint: `install it`"
    assert screen.summary([finding]) == "missing: git"


def test_a_gpu_in_use_is_not_disturbed_by_measuring(monkeypatch, tmp_path):
    monkeypatch.setenv("AUTORESEARCH_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine, "gpu_processes", lambda: [machine.GpuProcess(7, "python", None)])
    monkeypatch.setattr(attention, "_measure", lambda _values: pytest.fail("measured"))
    (found,) = run(doctor._attention, torch={"is_cuda": True}, hardware=HARDWARE)
    assert (found.status, found.text) == ("skip", "not measured (the GPU is in use)")


def test_measuring_again_does_not_change_what_sessions_use(monkeypatch, tmp_path):
    monkeypatch.setenv("AUTORESEARCH_CACHE_DIR", str(tmp_path))
    times = iter((1.0, 3.0))

    def measure(_values):
        full = {"cudnn": next(times), "flash": 2.0}
        best = min(full, key=full.get)
        return {"choice": f"{best}+folded", "full": full, "windowed": {}, "refused": {}}

    monkeypatch.setattr(attention, "_measure", measure)
    assert attention.choose_attention(HARDWARE).choice == "cudnn+folded"
    assert attention.choose_attention(HARDWARE, is_fresh=True).choice == "flash+folded"
    assert attention.choose_attention(HARDWARE).choice == "cudnn+folded"
    assert attention.stored_attention(HARDWARE).choice == "cudnn+folded"


def test_a_window_slower_than_none_is_told(monkeypatch):
    found = attention.Attention("cudnn+folded", "measured", {"cudnn": 1.0}, {"folded": 2.5}, {})
    monkeypatch.setattr(attention, "choose_attention", lambda *_a, **_k: found)
    monkeypatch.setattr(machine, "gpu_processes", list)
    (finding,) = run(doctor._attention, torch={"is_cuda": True}, hardware=HARDWARE)
    assert finding.status == "warn"
    assert finding.text == "cudnn+folded (ms: cudnn 1.00; with a window: folded 2.50)"
    assert "SHORT_WINDOW = 0" in finding.hint
