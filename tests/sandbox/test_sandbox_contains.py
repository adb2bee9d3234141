"""What a child must not be able to do, under every backend that works here."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoresearch.sandbox import Policy
from autoresearch.sandbox.launcher.seal import count_in_memory

pytestmark = pytest.mark.parametrize(
    "sandbox",
    [
        "bubblewrap",
        pytest.param("bubblewrap/same-user", marks=pytest.mark.slow),
        "landlock",
        pytest.param("landlock/same-user", marks=pytest.mark.slow),
        pytest.param("landlock/ubuntu-24.04", marks=pytest.mark.slow),
        pytest.param("landlock/debian-12", marks=pytest.mark.slow),
        "landlock/ubuntu-22.04",
        "landlock/container",
    ],
    indirect=True,
)

ATTEMPTS = """
import json, os, socket, sys
def attempt(action):
    try:
        result = action()
    except BaseException as error:
        return type(error).__name__
    return f"did it: {result!r}"
"""


def attempts(run, code, *arguments, **changes):
    child = run(ATTEMPTS + code + "\nprint(json.dumps(results))", *arguments, **changes)
    assert child.code == 0, child.err
    return json.loads(child.out.splitlines()[-1])


@contextlib.contextmanager
def bystander(**options):
    with subprocess.Popen(["sleep", "600"], **options) as process:
        try:
            yield process
        finally:
            process.kill()


def test_no_network_of_any_family(run):
    code = """
results = {}
for family in range(0, 46):
    if family == socket.AF_UNIX: continue
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
        results[f"{family}-{kind}"] = attempt(lambda: socket.socket(family, kind))
results["name"] = attempt(lambda: socket.getaddrinfo("example.org", 80))
"""
    found = attempts(run, code)
    assert not [name for name, result in found.items() if result.startswith("did")]


def test_proposer_may_use_the_network(run):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = """
import socket, sys
socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5).close()
print("connected")
"""
        child = run(code, str(port), profile="proposer", needs_network=True)
    assert child.out == "connected\n", child.err


def test_a_proposer_connects_to_the_ports_it_may_only(run, sandbox):
    """Not by TCP fast open, MPTCP or IPv6 either; services of this machine listen on other ports."""
    if sandbox.name == "landlock" and sandbox.abi < 4 and not sandbox.has_broker:
        pytest.skip("nothing can see to it there")
    code = """
def connect(port, family=socket.AF_INET, protocol=0, host="127.0.0.1"):
    with socket.socket(family, socket.SOCK_STREAM, protocol) as mine:
        mine.settimeout(5)
        mine.connect((host, port))
def fast(port):
    with socket.socket() as mine:
        mine.sendto(b"x", 0x20000000, ("127.0.0.1", port))
yes, no = map(int, sys.argv[1:])
results = {"allowed": attempt(lambda: connect(yes)), "other": attempt(lambda: connect(no)),
    "fast": attempt(lambda: fast(no)), "mptcp": attempt(lambda: connect(no, protocol=262)),
    "mapped": attempt(lambda: connect(no, socket.AF_INET6, 0, "::ffff:127.0.0.1"))}
"""
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
    ):
        ports = [server.getsockname()[1] for server in (first, second)]
        more = {"profile": "proposer", "needs_network": True}
        found = attempts(run, code, *map(str, ports), ports=(ports[0],), **more)
        assert found.pop("allowed").startswith("did")
        assert not [name for name, result in found.items() if result.startswith("did")]
        found = attempts(run, code, *map(str, ports), **more)
        assert found["other"].startswith("did")


def test_a_proposer_reaches_no_service_of_this_machine(run):
    """Its network is the machine's, and with it come abstract names."""
    name = f"autoresearch-service-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as service:
        service.bind("\0" + name)
        service.listen()
        code = """
def connect(): socket.socket(socket.AF_UNIX).connect("\\0" + sys.argv[1])
results = {"service": attempt(connect), "pair": attempt(lambda: socket.socketpair() and None)}
"""
        found = attempts(run, code, name, profile="proposer", needs_network=True)
    assert found.pop("pair") == "did it: None"
    assert not found["service"].startswith("did")


def test_local_sockets_reach_only_the_private_home(run, place, sandbox):
    path = place / "lab.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        path.chmod(0o777)
        server.listen()
        code = """
def connect(address, kind=socket.SOCK_STREAM):
    socket.socket(socket.AF_UNIX, kind).connect(address)
home = os.environ["HOME"]
os.symlink(sys.argv[1], home + "/link")
listener = socket.socket(socket.AF_UNIX); listener.bind(home + "/own"); listener.listen()
results = {
    "outside": attempt(lambda: connect(sys.argv[1])),
    "link": attempt(lambda: connect(home + "/link")),
    "up": attempt(lambda: connect(home + "/../lab.sock")),
    "abstract": attempt(lambda: connect("\\0autoresearch-test")),
    "datagram": attempt(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", sys.argv[1])),
}
results["own"] = attempt(lambda: connect(home + "/own"))
os.chdir(home)
results["relative"] = attempt(lambda: connect("own"))
"""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as abstract:
            abstract.bind("\0autoresearch-test")
            abstract.listen()
            found = attempts(run, code, str(path))
    own = {found.pop("own"), found.pop("relative")}
    has_broker = getattr(sandbox, "has_broker", True)
    assert own == {"did it: None" if has_broker else "ConnectionRefusedError"}
    assert not [name for name, result in found.items() if result.startswith("did")]


def test_a_socket_address_or_a_name_may_lie_across_pages_and_at_the_end_of_memory(run, sandbox):
    code = """
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
page = mmap.PAGESIZE
memory = mmap.mmap(-1, 2 * page)
hold = ctypes.c_char.from_buffer(memory)
start = ctypes.addressof(hold)
home = os.environ["HOME"]
listener = socket.socket(socket.AF_UNIX); listener.bind(home + "/own"); listener.listen()
address = b"\\x01\\0" + home.encode() + b"/own\\0"
name = b"/dev/shm/across\\0"
def put(data, inside):
    ctypes.memmove(start + page - inside, data, len(data))
    return ctypes.c_void_p(start + page - inside)
def connect(inside):
    with socket.socket(socket.AF_UNIX) as caller:
        if libc.connect(caller.fileno(), put(address, inside), len(address)):
            raise OSError(ctypes.get_errno(), "no")
def create(inside):
    found = libc.open(put(name, inside), os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    if found < 0:
        raise OSError(ctypes.get_errno(), "no")
    os.close(found)
across = range(1, len(name))
results = {"connect": attempt(lambda: [connect(n) for n in across] and None)}
results["create"] = attempt(lambda: [create(n) for n in across] and None)
assert libc.munmap(ctypes.c_void_p(start + page), page) == 0
results["end"] = attempt(lambda: connect(len(address)))
results["name at the end"] = attempt(lambda: create(len(name)))
"""
    found = attempts(run, code)
    if not getattr(sandbox, "has_broker", True):
        del found["connect"], found["create"], found["end"], found["name at the end"]
    assert set(found.values()) <= {"did it: None"}, found


def test_numbers_that_nothing_has_are_refused_and_the_keeper_lives_on(run):
    """Addresses that no process has, and the smallest process group, which has no opposite."""
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def refused(result):
    assert result == -1
    raise OSError(ctypes.get_errno(), "refused")
results = {}
for address in (1 << 63, (1 << 64) - 1, 8):
    pointer = ctypes.c_void_p(address)
    with socket.socket(socket.AF_UNIX) as caller:
        results[f"connect {address}"] = attempt(lambda: refused(libc.connect(caller.fileno(), pointer, 100)))
    results[f"open {address}"] = attempt(lambda: refused(libc.open(pointer, os.O_CREAT | os.O_NOFOLLOW, 0o600)))
    results[f"unlink {address}"] = attempt(lambda: refused(libc.unlink(pointer)))
results["kill"] = attempt(lambda: refused(libc.kill(ctypes.c_int(-(1 << 31)), 9)))
open(os.environ["HOME"] + "/alive", "w").close()
results["alive"] = "yes"
"""
    found = attempts(run, code)
    assert found.pop("alive") == "yes"
    refusals = {"OSError", "PermissionError", "ProcessLookupError", "ConnectionRefusedError"}
    assert set(found.values()) <= refusals, found


def test_files_outside_cannot_be_read_or_written(run, place):
    secret = place / "secret.txt"
    secret.write_text("validation text")
    secret.chmod(0o666)
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    code = """
secret, folder = sys.argv[1:3]
home = os.environ["HOME"]
os.symlink(secret, home + "/link")
results = {
    "read": attempt(lambda: open(secret).read()),
    "by link": attempt(lambda: open(home + "/link").read()),
    "hard link": attempt(lambda: os.link(secret, home + "/hard")),
    "rename": attempt(lambda: os.rename(secret, home + "/moved")),
    "list": attempt(lambda: os.listdir(os.path.dirname(secret))),
    "append": attempt(lambda: open(secret, "a").write("x")),
    "truncate": attempt(lambda: os.truncate(secret, 0)),
    "open and truncate": attempt(lambda: os.open(secret, os.O_RDONLY | os.O_TRUNC)),
    "create": attempt(lambda: open(folder + "/new", "w")),
    "remove": attempt(lambda: os.unlink(secret)),
    "snapshot": attempt(lambda: open("new.py", "w")),
    "package": attempt(lambda: open(os.path.dirname(os.__file__) + "/new.py", "w")),
    "shadow": attempt(lambda: open("/etc/shadow").read()),
    "root": attempt(lambda: os.listdir("/root")),
    "device": attempt(lambda: os.mknod(home + "/disk", 0o60600, os.makedev(254, 0))),
    "proc": attempt(lambda: open("/proc/sys/kernel/core_pattern", "w")),
    "sysrq": attempt(lambda: open("/proc/sysrq-trigger", "w")),
    "memory": attempt(lambda: open("/dev/mem", "rb")),
}
"""
    found = attempts(run, code, str(secret), str(place / "open"))
    # Under bubblewrap such folders exist, empty but for what was shown in them.
    for name in ("list", "root"):
        listed = found.pop(name)
        assert "secret" not in listed
        assert ".bashrc" not in listed
    # There the private /tmp may get files of these names, which are others.
    harmless = {"append", "truncate", "open and truncate", "remove", "create"}
    bad = {name for name, result in found.items() if result.startswith("did")}
    assert not bad - harmless
    assert secret.read_text() == "validation text"
    assert not list((place / "open").iterdir())


def test_metadata_of_foreign_files_stays(run, place):
    file = place / "lab.txt"
    file.write_text("x")
    file.chmod(0o644)
    os.utime(file, (1_000_000, 1_000_000))
    code = """
for action in (lambda: os.chmod(sys.argv[1], 0o777), lambda: os.utime(sys.argv[1], (5, 5)),
               lambda: os.chown(sys.argv[1], 1, 1), lambda: os.setxattr(sys.argv[1], "user.a", b"x")):
    attempt(action)
results = {}
"""
    attempts(run, code, str(file))
    state = file.stat()
    assert (state.st_mode & 0o777, state.st_mtime, state.st_uid) == (0o644, 1e6, os.getuid())


def test_with_a_gpu_a_child_changes_what_proc_says_of_itself_only(run):
    code = """
import glob, threading
def put(path, text):
    # As the C library does it for the name of a thread.
    file = os.open(path, os.O_RDWR)
    try: os.write(file, text.encode())
    finally: os.close(file)
def named(task):
    put(f"/proc/self/task/{task}/comm", "named")
    return open(f"/proc/self/task/{task}/comm").read()
done = threading.Event()
thread = threading.Thread(target=done.wait); thread.start()
own = {name: attempt(lambda: named(task)) for name, task in (("main", os.getpid()), ("thread", thread.native_id))}
done.set()
# Opened and no more: were it allowed, nobody's settings should change by it.
others = {path: attempt(lambda: os.close(os.open(path, os.O_RDWR))) for pid in glob.glob("/proc/[0-9]*")
          if pid != f"/proc/{os.getpid()}" for path in (pid + "/oom_score_adj", pid + "/coredump_filter")}
results = {"own": own, "others": others}
"""
    found = attempts(run, code, needs_gpu=True)
    assert set(found["own"].values()) == {"did it: 'named\\n'"}, found
    # In a private process tree there is the init of that tree, which is bubblewrap's.
    names = [path for path, result in found["others"].items() if result.startswith("did")]
    assert not [name for name in names if not name.startswith("/proc/1/")], names


def test_the_environment_is_exactly_the_allow_list(run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1")
    child = run(
        "import json, os; print(json.dumps(dict(os.environ)))",
        environment={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    )
    names = set(json.loads(child.out))
    assert names <= {"PATH", "LANG", "HOME", "TMPDIR", "USER", "LOGNAME", "PYTHONPATH"}


def test_no_secret_of_the_lab_can_be_found_in_proc(run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-2")
    code = """
import glob, os
own = {os.getpid()}
for pattern in ("environ", "maps", "mem", "cwd", "root", "fd/*", "auxv", "task/*/environ"):
    for path in glob.glob(f"/proc/[0-9]*/{pattern}"):
        try:
            if int(path.split("/")[2]) in own: continue
            if os.read(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 100): print("read", path)
        except (OSError, ValueError): pass
"""
    with bystander(env={"OPENAI_API_KEY": "sk-canary-2"}):
        child = run(code)
    assert "sk-canary" not in child.out
    found = [line for line in child.out.splitlines() if line.startswith("read")]
    # A private process tree holds only the child's own init, which knows nothing.
    assert not [line for line in found if not line.startswith("read /proc/1/")], child.out


def test_signals_do_not_leave(run):
    with bystander() as victim:
        code = """
import fcntl, signal
pid, parent = int(sys.argv[1]), os.getppid()
ours, theirs = socket.socketpair()
results = {
    "victim": attempt(lambda: os.kill(pid, signal.SIGKILL)),
    "tests": attempt(lambda: os.kill(int(sys.argv[2]), signal.SIGUSR1)),
    "priority": attempt(lambda: os.setpriority(os.PRIO_PROCESS, pid, 19)),
    "priority of the user": attempt(lambda: os.setpriority(os.PRIO_USER, 0, 0)),
    "owner": attempt(lambda: fcntl.fcntl(ours, fcntl.F_SETOWN, pid)),
    "owner by ioctl": attempt(lambda: fcntl.ioctl(ours, 0x8901, pid.to_bytes(4, sys.byteorder))),
    "signal": attempt(lambda: fcntl.fcntl(ours, 10, signal.SIGKILL)),
    "pidfd": attempt(lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL)),
}
"""
        found = attempts(run, code, str(victim.pid), str(os.getpid()))
        assert victim.poll() is None
        assert os.getpriority(os.PRIO_PROCESS, victim.pid) == os.getpriority(os.PRIO_PROCESS, 0)
    assert not [name for name, result in found.items() if result.startswith("did")]


def test_kernel_interfaces_are_closed(run):
    code = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
numbers = {"x86_64": [272, 308, 165, 101, 321, 298, 250, 425, 310, 304, 29, 68, 438, 155, 428],
           "aarch64": [97, 268, 40, 117, 280, 241, 219, 425, 270, 265, 194, 186, 438, 41, 428]}
results = {}
for number in numbers[os.uname().machine]:
    ctypes.set_errno(0)
    value = libc.syscall(number, 0, 0, 0, 0, 0, 0)
    results[number] = errno.errorcode.get(ctypes.get_errno()) if value < 0 else f"did it: {value}"
ctypes.set_errno(0)
with open("/proc/self/exe", "rb") as file:
    results["no wait"] = attempt(lambda: os.preadv(file.fileno(), [bytearray(4)], 0, os.RWF_NOWAIT))
    numbers = {"x86_64": (27, 451), "aarch64": (232, 451)}
    for number in numbers[os.uname().machine]:
        value = libc.syscall(number, 4096, 4096, 0)
        results[number] = errno.errorcode.get(ctypes.get_errno()) if value < 0 else "did it"
ctypes.set_errno(0)
results["unknown"] = errno.errorcode[ctypes.get_errno()] if libc.syscall(463, 0, 0) < 0 else "did"
results["namespace"] = attempt(lambda: os.unshare(0x10000000)) if hasattr(os, "unshare") else "-"
"""
    found = attempts(run, code)
    assert found.pop("unknown") == "ENOSYS"
    assert not [
        n
        for n, result in found.items()
        if result not in {"EPERM", "ENOSYS", "OSError", "PermissionError", "-"}
    ], found


def test_pages_of_a_file_cannot_be_wiped_from_memory(run):
    """Else they are a slate for notes to a later trial."""
    files = (p for p in Path("/usr/share").rglob("*") if p.is_file() and not p.is_symlink())
    path = next((p for p in files if p.stat().st_size > 1 << 17), None)
    if path is None:
        pytest.skip("no large file in /usr/share")
    with path.open("rb") as file:
        size = len(file.read())
        before = count_in_memory(file.fileno(), size)
        if not before:
            pytest.skip("this kernel does not say what is in memory")
        code = """
file = os.open(sys.argv[1], os.O_RDONLY)
results = {"wiped": attempt(lambda: os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED))}
"""
        attempts(run, code, str(path))
        assert count_in_memory(file.fileno(), size) == before


def test_nothing_survives(sandbox, place):
    """Daemons that left the session, ignore signals and changed their name are gone afterwards."""
    mark = f"autoresearch-survivor-{os.getpid()}-{sandbox.name}"
    code = f"""
import os, signal, sys, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork(): os._exit(0)
        for number in range(1, 32):
            try: signal.signal(number, signal.SIG_IGN)
            except OSError: pass
        os.close(0); os.close(1); os.close(2)
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)", "{mark}"])
time.sleep(0.5)
print("started")
"""
    home = place / "home"
    home.mkdir()
    command = sandbox.wrap([sys.executable, "-c", code], Policy("train", home, home))
    done = subprocess.run(
        command.argv, env=dict(command.env), capture_output=True, text=True, check=False, timeout=30
    )
    assert done.stdout == "started\n", done.stderr
    assert not holders(mark)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_dies_with_its_keeper(sandbox, place, number):
    mark = f"autoresearch-orphan-{os.getpid()}-{sandbox.name}-{number}"
    home = place / "home"
    home.mkdir()
    code = "import time; print('up', flush=True); time.sleep(60)"
    command = sandbox.wrap([sys.executable, "-c", code, mark], Policy("train", home, home))
    with subprocess.Popen(
        command.argv, env=dict(command.env), stdout=subprocess.PIPE, text=True
    ) as keeper:
        assert keeper.stdout.readline() == "up\n"
        assert holders(mark)
        keeper.send_signal(number)
        keeper.wait(timeout=10)
    deadline = time.monotonic() + 5
    while holders(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not holders(mark)


def holders(mark: str) -> list[int]:
    """Processes with `mark` in their command line, keepers included."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "cmdline").read_bytes().split(b"\0")[-2:][0]:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_exit_code_and_signal_pass_through(run):
    assert run("raise SystemExit(7)").code == 7
    assert run("import os; os.kill(os.getpid(), 9)").code == -9
    assert run("import os; os.abort()").code == -6


def test_descriptors_pass_and_close_with_the_child(sandbox, place):
    ours, theirs = socket.socketpair()
    home = place / "home"
    home.mkdir()
    code = """
import os, sys, time
os.write(int(sys.argv[1]), b"hello")
os.close(int(sys.argv[1]))
time.sleep(30)
"""
    policy = Policy("train", home, home, inherit=(theirs.fileno(),))
    command = sandbox.wrap([sys.executable, "-c", code, str(theirs.fileno())], policy)
    with (
        ours,
        subprocess.Popen(command.argv, env=dict(command.env), pass_fds=command.pass_fds) as child,
    ):
        theirs.close()
        ours.settimeout(10)
        assert ours.recv(16) == b"hello"
        # End of file although the child lives: nobody else holds the other end.
        assert ours.recv(16) == b""
        assert child.poll() is None
        child.terminate()


def test_homes_are_fresh_and_shared_memory_is_private(run):
    name = f"/dev/shm/autoresearch-smuggle-{os.getpid()}"
    code = """
results = {"shm": attempt(lambda: os.write(os.open(sys.argv[1], os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW), b"x")),
           "tmp": attempt(lambda: open("/tmp/autoresearch-smuggle", "w").write("x"))}
"""
    attempts(run, code, name)
    assert not Path(name).exists()
    assert not Path("/tmp/autoresearch-smuggle").exists()
    again = attempts(
        run,
        "results = {n: os.path.exists(n) for n in (sys.argv[1], '/tmp/autoresearch-smuggle')}",
        name,
    )
    assert not any(again.values())


def test_a_judge_leaves_nothing_in_its_home(run, place):
    child = run(
        "open('/'.join((__import__('os').environ['HOME'], 'x')), 'w').write('x')", profile="judge"
    )
    assert child.code == 0, child.err
    assert not [p for home in place.glob("home*") for p in home.iterdir()]


def test_disk_limit(run):
    code = """
import os, time
for i in range(40):
    with open(f"{os.environ['HOME']}/{i}", "wb") as file:
        file.write(b"x" * 4_000_000)
    time.sleep(0.05)
time.sleep(50)
print("wrote all")
"""
    child = run(code, disk_mb=16)
    assert "wrote all" not in child.out
    assert child.code == 122
    assert "disk limit of 16 MB exceeded" in child.err
    one = "import os; open(os.environ['HOME'] + '/big', 'wb').truncate(1 << 30); print('grew')"
    assert "grew" not in run(one, disk_mb=16).out


def test_a_fifo_among_shared_names_does_not_stop_the_keeper(run):
    """Under Landlock the keeper itself opens names in /dev/shm, in a folder of the child."""
    code = """
import os, time
try:
    os.mkfifo(os.environ["HOME"] + "/.shm/fifo")
    os.close(os.open("/dev/shm/fifo", os.O_CREAT | os.O_NOFOLLOW))
except OSError:
    pass
print("went on", flush=True)
for i in range(40):
    with open(f"{os.environ['HOME']}/{i}", "wb") as file:
        file.write(b"x" * 4_000_000)
    time.sleep(0.05)
time.sleep(50)
print("wrote all")
"""
    child = run(code, disk_mb=16)
    assert child.out == "went on\n"
    assert child.code == 122, child.err


def test_process_limit(run):
    code = """
import os, time
count = 0
try:
    for _ in range(300):
        if os.fork() == 0:
            time.sleep(600); os._exit(0)
        count += 1
except OSError:
    pass
print(count, flush=True)
if count >= 60:
    time.sleep(50)
    print("still here", flush=True)
"""
    child = run(code, max_processes=40)
    count = int(child.out.split()[0]) if child.out else 0
    assert count < 60 or "still here" not in child.out


def test_memory_limit(run):
    code = """
import time
block = bytearray(600 << 20)
for i in range(0, len(block), 4096): block[i] = 1
time.sleep(50)
print("kept it")
"""
    child = run(code, memory_mb=200)
    assert "kept it" not in child.out
    assert child.code != 0
    assert "memory limit of 200 MB exceeded" in child.err


def test_folders_too_deep_to_count(run, place):
    code = """
import os, time
os.chdir(os.environ["HOME"])
for _ in range(2500):
    os.mkdir("d"); os.chdir("d")
time.sleep(50)
print("unseen")
"""
    child = run(code)
    assert child.code == 122, child.err
    assert "nested folders exceeded" in child.err
    subprocess.run(["rm", "-rf", *place.glob("home*")], check=True)


def test_a_judge_leaves_no_deep_folders(run, place):
    code = """
import os
os.chdir(os.environ["HOME"])
open("x", "w").close()
os.symlink("/etc", "link")
for _ in range(1500):
    os.mkdir("d"); os.mkdir("e"); os.chdir("d")
"""
    child = run(code, profile="judge")
    assert not [p for home in place.glob("home*") for p in home.iterdir()], child.err
