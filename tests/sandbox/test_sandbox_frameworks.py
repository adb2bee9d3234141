"""What honest training code does must work inside: torch, compile, workers, safetensors."""

import os
import sys

import pytest

from autoresearch.sandbox import command, machine_paths


def test_torch_and_the_package_import(run):
    code = """
import torch, numpy
import autoresearch, autoresearch.types
x = torch.randn(64, 64)
print("sum", torch.isfinite(x @ x).all().item())
"""
    child = run(code)
    assert child.out == "sum True\n", child.err
    assert child.code == 0


@pytest.mark.slow
def test_compile_with_gcc(run):
    code = """
import torch
f = torch.compile(lambda x: torch.relu(x) * 2 + x.sin())
print(torch.allclose(f(torch.zeros(8)), torch.zeros(8)))
"""
    child = run(code, timeout=200)
    assert child.out == "True\n", child.err


def test_loader_workers_share_tensors(run):
    code = """
import torch
from torch.utils.data import DataLoader, Dataset
class Rows(Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): return torch.full((4,), i)
if __name__ == "__main__":
    total = sum(x.sum().item() for x in DataLoader(Rows(), batch_size=2, num_workers=2))
    print(total)
"""
    child = run(code)
    assert child.out == "112\n", child.err


def test_safetensors_round_trip(run):
    code = """
import os, torch
from safetensors.torch import load_file, save_file
path = os.path.join(os.environ["HOME"], "w.safetensors")
save_file({"a": torch.arange(3)}, path)
print(load_file(path)["a"].tolist())
"""
    child = run(code)
    assert child.out == "[0, 1, 2]\n", child.err


def test_shared_memory_and_processes(run):
    code = """
import multiprocessing as mp
from multiprocessing import shared_memory
def work(name, queue):
    block = shared_memory.SharedMemory(name)
    queue.put(bytes(block.buf[:3]))
    block.close()
if __name__ == "__main__":
    context = mp.get_context("fork")
    block = shared_memory.SharedMemory(create=True, size=16)
    block.buf[:3] = b"abc"
    queue = context.Queue()
    child = context.Process(target=work, args=(block.name, queue))
    child.start()
    print(queue.get(timeout=20)); child.join(); block.close(); block.unlink()
"""
    child = run(code)
    assert child.out == "b'abc'\n", child.err


@pytest.mark.parametrize("sandbox", ["landlock/container"], indirect=True)
def test_semaphores_work_without_a_broker(run):
    code = """
import multiprocessing as mp
lock = mp.get_context("fork").Lock()
with lock:
    print("locked")
"""
    child = run(code)
    assert child.out == "locked\n", child.err


@pytest.mark.parametrize("sandbox", ["bubblewrap", "landlock"], indirect=True)
def test_a_private_run_directory_of_root_in_a_container(run, place, monkeypatch):
    """Root without the capability to read past file modes, in a home that is its own."""
    monkeypatch.setattr(command, "kept_capabilities", lambda: 0)
    (place / "snapshot").mkdir()
    (place / "snapshot" / "x.txt").write_text("read")
    place.chmod(0o700)
    child = run("import os; print(open('x.txt').read()); open(os.environ['HOME'] + '/y', 'w')")
    assert child.out == "read\n", child.err


@pytest.mark.parametrize("sandbox", ["bubblewrap", "landlock"], indirect=True)
def test_a_throwaway_uid_opens_the_nodes_of_a_gpu_but_not_by_the_group_of_root(
    run, sandbox, place, monkeypatch
):
    """Files stand for /dev/kfd and for a node in /dev/dri, which Debian leaves to the group `render`."""
    if not sandbox.changes_user:
        pytest.skip("the lab is not root here")
    (place / "dri").mkdir()
    for name, group in (("kfd", 50_001), ("dri/renderD128", 50_002), ("root", 0)):
        (place / name).touch()
        (place / name).chmod(0o660)
        os.chown(place / name, 0, group)
    nodes = tuple(place / name for name in ("kfd", "dri", "root"))
    monkeypatch.setattr(machine_paths, "gpu_nodes", lambda *_: nodes)
    code = """
import os, sys
print(os.getgroups())
for name in sys.argv[1:]:
    try:
        print(os.close(os.open(name, os.O_RDWR)))
    except PermissionError:
        print("refused")
"""
    files = [str(place / name) for name in ("kfd", "dri/renderD128", "root")]
    child = run(code, *files, needs_gpu=True)
    assert child.out.splitlines() == ["[50001, 50002]", "None", "None", "refused"], child.err
    assert run(code).out == "[]\n"


def test_packages_of_the_person_are_found(run, place, monkeypatch):
    """`pip install --user` puts them below the real home, which the child does not have."""
    own = place / "own" / "site-packages"
    own.mkdir(parents=True)
    (own / "zoo_module.py").write_text("value = 7")
    monkeypatch.setattr(sys, "path", [*sys.path, str(own)])
    machine_paths.interpreter_paths.cache_clear()
    try:
        child = run("import zoo_module, autoresearch; print(zoo_module.value)")
    finally:
        machine_paths.interpreter_paths.cache_clear()
    assert child.out == "7\n", child.err
