"""The table of guarantees, each cell by trying it, also those that say no."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch.sandbox import GUARANTEES, NoSandbox, Policy, Sandbox
from autoresearch.sandbox.select import BACKENDS, probe

CODE = """
import json, os, socket, sys
port, parent, folder, home, data = int(sys.argv[1]), *sys.argv[2:6]
def works(action):
    try:
        return action() is not None
    except OSError:
        return False
def fill():
    for number in range(6):
        with open(f"{os.environ['TMPDIR']}/{number}", "wb", buffering=0) as file:
            if file.write(bytes(4 << 20)) < 4 << 20:
                return None
    return True
done = {
    "network": works(lambda: socket.create_connection(("127.0.0.1", port), timeout=5)),
    "writes": works(lambda: open(folder + "/new", "w").write("x")),
    "home": works(lambda: open(home + "/.netrc").read()),
    "validation": works(lambda: open(data + "/validation.arrow").read()),
    "processes": os.path.exists(f"/proc/{parent}/cmdline"),
    "quota": works(fill),
}
if len(sys.argv) > 6:
    from autoresearch.sandbox.launcher.seal import enter_seal
    enter_seal()
    os.stat("/")
    os.write(int(sys.argv[6]), b"seal")
    os.read(int(sys.argv[6]), 1)
done["notes"] = works(lambda: os.stat("/"))
print(json.dumps(done), flush=True)
"""


@pytest.fixture(params=[*BACKENDS, "none"])
def backend(request: pytest.FixtureRequest) -> Sandbox:
    if request.param == "none":
        return NoSandbox()
    found = probe(request.param)
    if found.sandbox is None:
        pytest.skip(f"{request.param} does not work here: {found.problem}")
    return found.sandbox


def test_each_cell_of_the_table(backend, place) -> None:
    names = ("folder", "real-home", "data", "home", "tmp")
    folder, real_home, data, home, temporary = (place / name for name in names)
    for path in (folder, real_home, data, home, temporary):
        path.mkdir()
    folder.chmod(0o777)
    for path in (real_home / ".netrc", data / "validation.arrow"):
        path.write_text("secret")
        path.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        arguments = [str(port), str(os.getpid()), *map(str, (folder, real_home, data))]
        policy = Policy("train", home, home, disk_mb=16)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            if backend.guarantees["notes"]:
                policy = replace(policy, inherit=(ours.fileno(),), seal=theirs.fileno())
                arguments.append(str(ours.fileno()))
            command = backend.wrap([sys.executable, "-c", CODE, *arguments], policy)
            done = subprocess.run(
                command.argv,
                env=dict(command.env),
                pass_fds=command.pass_fds,
                capture_output=True,
                text=True,
                check=False,
            )
    # A limit that is only watched may end it, after the writing or in the middle of it.
    found = json.loads(done.stdout) if done.stdout else {"quota": True}
    found["writes"] = (folder / "new").exists()
    if done.stdout:
        assert {name: not allowed for name, allowed in found.items()} == dict(backend.guarantees)
    else:
        assert done.returncode == 122, done.stderr
        assert not backend.guarantees["quota"]
    assert set(backend.guarantees) == set(GUARANTEES)


IDENTITY = """
import json, os
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
def refused(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return True
print(json.dumps({
    "uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(),
    "rights": int(lines["CapPrm"], 16) | int(lines["CapEff"], 16) | int(lines["CapInh"], 16),
    "stuck": refused(os.setuid, 0) and refused(os.setgid, 0) and refused(os.setgroups, [0]),
    "no_new": lines["NoNewPrivs"].strip(),
}))
"""


def identity(sandbox: Sandbox, home: Path) -> dict[str, object]:
    home.mkdir()
    command = sandbox.wrap([sys.executable, "-c", IDENTITY], Policy("train", home, home))
    done = subprocess.run(
        command.argv, env=dict(command.env), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", ["bubblewrap", "landlock"])
def test_root_gives_its_rights_up(name, place) -> None:
    sandbox = probe(name).sandbox
    if sandbox is None or not getattr(sandbox, "changes_user", False):
        pytest.skip("the lab is not root here")
    first, second = identity(sandbox, place / "a"), identity(sandbox, place / "b")
    for found in (first, second):
        assert set(found["uids"]) == set(found["gids"])
        assert found["uids"][0] >= 61_184
        assert found["groups"] == []
        assert found["stuck"]
        assert found["no_new"] == "1"
        # At most reading past file modes.
        assert found["rights"] in (0, 1 << 2)
    assert first["uids"] != second["uids"]


@pytest.mark.parametrize("name", ["bubblewrap", "landlock"])
def test_an_ordinary_user_keeps_nothing_either(name, place) -> None:
    sandbox = probe(name).sandbox
    if sandbox is None:
        pytest.skip(f"{name} does not work here")
    found = identity(replace(sandbox, changes_user=False), place / "a")
    assert found["rights"] == 0
    assert found["no_new"] == "1"


def test_a_child_that_ends_before_it_is_under_the_filter_ends_as_it_does(backend, place) -> None:
    if not backend.guarantees["notes"]:
        pytest.skip("nothing is sealed")
    home = place / "home"
    home.mkdir()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        policy = Policy("judge", home, home, seal=theirs.fileno())
        command = backend.wrap([sys.executable, "-c", "raise SystemExit(7)"], policy)
        done = subprocess.run(
            command.argv,
            env=dict(command.env),
            pass_fds=command.pass_fds,
            capture_output=True,
            check=False,
        )
        theirs.close()
        assert (done.returncode, ours.recv(1)) == (7, b""), done.stderr
