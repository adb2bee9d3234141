"""What a child must not reach beyond itself, as root and as an ordinary user, on the Landlock of each kernel."""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch.sandbox import Policy, command, machine_paths
from autoresearch.sandbox.select import probe

USER = 54_321
"""A user id that no account has; what it starts may be signalled and reniced by it."""
ABIS = (1, 3, 5, None)
"""Landlock of Ubuntu 22.04, Debian 12 and Ubuntu 24.04, as far as this matters, and that of this kernel."""

CODE = """
import fcntl, json, os, resource, signal, socket, sys
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
pid, folder = int(sys.argv[1]), sys.argv[2]
ours, theirs = socket.socketpair()
def put(path, text):
    with open(path, "w") as file:
        file.write(text)
def watch(path):
    notes = libc.inotify_init1(0)
    if notes < 0 or libc.inotify_add_watch(notes, path.encode(), 0xFFF) < 0:
        raise OSError(ctypes.get_errno(), "no")
def owned_by(target):
    fcntl.fcntl(ours, fcntl.F_SETOWN, target)
    fcntl.fcntl(ours, 10, signal.SIGKILL)
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    theirs.send(b"x")
def called(name, *arguments):
    found = getattr(libc, name)(*arguments)
    if found is None or found in (-1, 2**64 - 1):
        raise OSError(ctypes.get_errno(), "no")
libc.shmat.restype = ctypes.c_void_p
memory, semaphores, messages = map(int, sys.argv[4:7])
def marked(path, request):
    fcntl.ioctl(os.open(path, os.O_RDONLY), request, (0x800C0).to_bytes(32, sys.byteorder))
attempts = {
    "kill": lambda: os.kill(pid, signal.SIGKILL),
    "signal by descriptor": lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL),
    "owner": lambda: owned_by(pid),
    "owner by ioctl": lambda: fcntl.ioctl(ours, 0x8901, pid.to_bytes(4, sys.byteorder)),
    "owner by ioctl of sockets": lambda: fcntl.ioctl(ours, 0x8902, pid.to_bytes(4, sys.byteorder)),
    "lease": lambda: fcntl.fcntl(os.open(sys.argv[3], os.O_RDONLY), 1024, fcntl.F_RDLCK),
    "news of a folder": lambda: fcntl.fcntl(os.open("/usr", os.O_RDONLY), 1026, 0x80000001),
    "priority": lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
    "priority of a group": lambda: os.setpriority(os.PRIO_PGRP, os.getpgid(pid), 19),
    "priority of the user": lambda: os.setpriority(os.PRIO_USER, 0, 19),
    "turn at the disk": lambda: called("syscall", {"x86_64": 251}.get(os.uname().machine, 30), 3, 0, 3 << 13 | 7),
    "cores": lambda: os.sched_setaffinity(pid, {0}),
    "scheduler": lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)),
    "limits": lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (16, 16)),
    "memory": lambda: os.read(os.open(f"/proc/{pid}/mem", os.O_RDONLY), 1),
    "environment": lambda: open(f"/proc/{pid}/environ").read(1),
    "watch the lab": lambda: watch(folder),
    "watch a system folder": lambda: watch("/usr"),
    "times of a file": lambda: os.utime(folder + "/file"),
    "times of a device": lambda: os.utime("/dev/null"),
    "times of another": lambda: os.utime("/dev/zero"),
    "memory of System V": lambda: called("shmat", memory, None, 0),
    "its end": lambda: called("shmctl", memory, 0, None),
    "semaphores": lambda: called("semctl", semaphores, 0, 16, 7),
    "up": lambda: called("semop", semaphores, (1 << 16).to_bytes(6, sys.byteorder), 1),
    "message": lambda: called("msgsnd", messages, (1).to_bytes(16, sys.byteorder), 8, 0o4000),
    "messages": lambda: called("msgrcv", messages, ctypes.create_string_buffer(64), 32, 0, 0o4000),
    "attributes": lambda: marked(folder + "/own", 0x40086602),
    "attributes of XFS": lambda: marked(folder + "/own", 0x401C5820),
    "version": lambda: marked(folder + "/own", 0x40087602),
    "subvolume": lambda: marked(folder, 0x5000940E),
    "hint": lambda: fcntl.fcntl(os.open(folder + "/own", os.O_RDONLY), 1036, (5).to_bytes(8, sys.byteorder)),
    "its own place when memory runs out": lambda: put("/proc/self/oom_score_adj", "0"),
}
attempts |= {name: lambda name=name: os.open(name, os.O_RDONLY) for name in sys.argv[7:]}
done = []
for name, attempt in attempts.items():
    try:
        attempt()
        done.append(name)
    except (OSError, AttributeError):
        pass
own = os.environ["HOME"] + "/own"
open(own, "w").close()
os.utime(own, (5, 5))
os.nice(1)
os.sched_setaffinity(0, os.sched_getaffinity(0))
import pathlib
pathlib.Path(own + "-touched").touch()
print(json.dumps([done, os.path.exists(own + "-touched")]))
"""


def cases() -> Iterator[object]:
    for user in ("root", "ordinary"):
        yield pytest.param("bubblewrap", user, None, id=f"bubblewrap-{user}")
        for abi in ABIS:
            yield pytest.param("landlock", user, abi, id=f"landlock-{user}-{abi or 'present'}")


@pytest.fixture
def system_v() -> Iterator[list[str]]:
    """Yield the numbers of shared memory, semaphores and a message queue that every user may use."""
    libc = ctypes.CDLL(None)
    create = 0o1000 | 0o666
    memory, semaphores = libc.shmget(0, 4096, create), libc.semget(0, 1, create)
    messages = libc.msgget(0, create)
    assert libc.msgsnd(messages, (1).to_bytes(16, sys.byteorder), 8, 0) == 0
    yield [str(number) for number in (memory, semaphores, messages)]
    assert libc.shmctl(memory, 0, None) == libc.semctl(semaphores, 0, 0) == 0
    assert libc.msgctl(messages, 0, None) == 0


@pytest.mark.parametrize(("backend", "user", "abi"), list(cases()))
def test_no_other_process_and_no_other_file_is_touched(
    backend, user, abi, place, system_v, monkeypatch
):
    sandbox = probe(backend).sandbox
    if sandbox is None or (abi or 0) > getattr(sandbox, "abi", 99):
        pytest.skip(f"{backend} does not work here")
    if user == "root" and not sandbox.changes_user:
        pytest.skip("the lab is not root here")
    changes = {} if abi is None else {"abi": abi}
    options: dict[str, object] = {}
    program = sys.executable
    if user == "ordinary":
        changes["changes_user"] = False
        if os.geteuid() == 0:
            program = "/usr/bin/python3"
            if not Path(program).exists():
                pytest.skip("no interpreter that everybody may run")
            monkeypatch.setattr(command, "interpreter", lambda: program)
            package = (machine_paths.package_folder(),)
            monkeypatch.setattr(machine_paths, "interpreter_paths", lambda: package)
            options = {"user": USER, "group": USER, "extra_groups": []}
    sandbox = replace(sandbox, **changes)
    home, snapshot, lab = place / "home", place / "snapshot", place / "lab"
    for folder in (home, snapshot, lab):
        folder.mkdir()
    (lab / "file").write_text("x")
    (lab / "file").chmod(0o666)
    (lab / "own").write_text("x")
    os.utime(lab / "file", (1e6, 1e6))
    if options:
        os.chown(home, USER, USER)
        os.chown(lab / "own", USER, USER)
    # Landlock cannot take one file of /proc out, where a child reads past file modes.
    tables = ["/proc/kpageflags", "/proc/slabinfo"] if backend == "bubblewrap" else []
    before = [Path(name).stat().st_mtime_ns for name in ("/dev/null", "/dev/zero")]
    # The one it may do most to: a process of the same user, and of its group.
    with subprocess.Popen(["sleep", "600"], env={"KEY": "secret"}, **options) as victim:
        try:
            wrapped = sandbox.wrap(
                [program, "-c", CODE, str(victim.pid), str(lab), program, *system_v, *tables],
                Policy(
                    "train",
                    snapshot,
                    home,
                    read_only=(lab / "own",),
                    environment={"PATH": "/usr/bin:/bin"},
                ),
            )
            child = subprocess.run(
                wrapped.argv,
                env=dict(wrapped.env),
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
                **options,
            )
            assert child.returncode == 0, child.stderr
            done, is_touched = json.loads(child.stdout)
            assert victim.poll() is None
            assert os.getpriority(os.PRIO_PROCESS, victim.pid) == os.getpriority(os.PRIO_PROCESS, 0)
        finally:
            victim.kill()
    assert done == []
    assert is_touched
    assert (lab / "file").stat().st_mtime == 1e6
    assert [Path(name).stat().st_mtime_ns for name in ("/dev/null", "/dev/zero")] == before
