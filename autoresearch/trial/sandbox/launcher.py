"""Starts one child inside a sandbox and stays as its keeper; run as `python -I -S launcher.py SPEC`.

Stands alone: the standard library and ctypes, nothing of the package, because it also runs inside
the sandbox, before and between things that must not be trusted. SPEC is a dict as `marshal` writes
it, in hexadecimal (json would take a third of the start). It names one of two modes:

`keep` (outside): makes a control group where it may, starts the child (bubblewrap, or itself under
Landlock and our filter), answers the broker's calls, watches disk, memory and processes, and ends
when the child ends, when its own parent is gone, or on SIGTERM. Whatever is left of the tree is then killed,
and it ends the way the child ended. A limit that was broken is told on standard error.

`enter` (inside bubblewrap): sets resource limits, drops to the throw-away uid, starts the program.

Trade-offs: disk and memory are watched four times a second where no quota and no control group
exist, so a child may overshoot for that long; a keeper killed with SIGKILL leaves grandchildren to the
lab's own supervisor.
"""

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import resource
import select
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, NoReturn
else:
    import _signal as signal  # the public module brings enum and re, a third of the start

TICK_SECONDS = 0.25
MAX_DEPTH = 200
MAX_ENTRIES = 300_000
MESSAGE = "autoresearch-sandbox: "
EXIT_LIMIT = 122
"""The child was ended for a limit on disk or processes (for memory: SIGKILL, as the kernel does)."""

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS = 1, 8, 38
_PR_SET_CHILD_SUBREAPER, _PR_CAP_AMBIENT, _PR_CAPBSET_DROP, _PR_SET_SECCOMP = 36, 47, 24, 22
_CAP_DAC_READ_SEARCH = 2
_O_PATH = 0o10000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_IS_ARM = os.uname().machine == "aarch64"
_NR = {
    "capset": (126, 91),
    "seccomp": (317, 277),
    "openat2": (437, 437),
    "pidfd_getfd": (438, 438),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
}

# Landlock rights, linux/landlock.h; the ABI that brought each.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_CREATE = 0x10 | 0x20 | 0x80 | 0x100 | 0x200 | 0x400 | 0x1000
"""Remove directories and files, make directories, files, sockets, fifos and symbolic links."""
_DEVICES = 0x40 | 0x800
_REFER, _TRUNCATE, _IOCTL = 0x2000, 0x4000, 0x8000
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_RIGHTS = {
    "read": _EXECUTE | _READ_FILE | _READ_DIR,
    "list": _READ_DIR,
    "write": _FILE_RIGHTS | _READ_DIR | _CREATE | _REFER,
    "device": _READ_FILE | _WRITE_FILE | _READ_DIR | _IOCTL,
    "shared": _READ_FILE | _WRITE_FILE | _TRUNCATE | 0x20 | 0x100,
    "update": _READ_FILE | _WRITE_FILE | _READ_DIR,
}


def syscall(name: str, *arguments: int | bytes) -> int:
    """Call the kernel; raise OSError on failure."""
    number = _NR[name][1 if _IS_ARM else 0]
    result = _LIBC.syscall(
        number, *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return int(result)


def prctl(option: int, first: int = 0, second: int = 0, third: int = 0) -> None:
    """Set a property of this process; raise OSError on failure."""
    longs = [ctypes.c_ulong(a) for a in (first, second, third, 0)]
    if _LIBC.prctl(option, *longs) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")


# ---------------------------------------------------------------- inside


def limit(spec: dict[str, Any]) -> None:
    """Set the resource limits a child cannot raise again."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: spec["max_processes"],
        resource.RLIMIT_FSIZE: spec["disk_mb"] << 20,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for name, value in limits.items():
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


def drop(uid: int | None, capabilities: int) -> None:
    """Become `uid` for good, or stay and lose every capability.

    Args:
        uid: None keeps the user.
        capabilities: Bits to keep beside (reading where the lab's own home is private).
    """
    for number in range(64):
        if not capabilities >> number & 1:
            try:
                prctl(_PR_CAPBSET_DROP, number)
            except OSError:
                pass  # not permitted to an ordinary user, who has none to lose
    if uid is not None:
        prctl(_PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    header = struct.pack("=Ii", 0x20080522, 0)
    low = capabilities & 0xFFFFFFFF
    syscall("capset", header, struct.pack("=6I", low, low, low, 0, 0, 0))
    for number in range(32):
        if capabilities >> number & 1:
            prctl(_PR_CAP_AMBIENT, 2, number)
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def confine(rules: Iterable[Sequence[str]], abi: int) -> None:
    """Enter a Landlock domain that allows what `rules` names.

    Args:
        rules: Pairs (path, key of `_RIGHTS`); a path that does not exist is passed over.
        abi: Version to speak, at most the kernel's.
    """
    handled = _FILE_RIGHTS | _READ_DIR | _CREATE | _DEVICES | _REFER
    for version, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL)):
        if abi < version:
            handled &= ~right
    attributes = struct.pack("=Q", handled)
    if abi >= 6:
        attributes += struct.pack("=QQ", 0, 3)
    ruleset = syscall("landlock_create_ruleset", attributes, len(attributes), 0)
    for path, kind in rules:
        try:
            descriptor = os.open(path, _O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rights = _RIGHTS[kind] & handled
        if os.fstat(descriptor).st_mode & 0o170000 != 0o040000:
            rights &= _FILE_RIGHTS
        syscall("landlock_add_rule", ruleset, 1, struct.pack("=Qi", rights, descriptor), 0)
        os.close(descriptor)
    syscall("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)


def install_filter(program: bytes, is_listening: bool) -> int:
    """Install the BPF program; return the listener's descriptor, or 0 without one."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    return syscall("seccomp", 1, 8 if is_listening else 0, header)


def execute(spec: dict[str, Any]) -> NoReturn:
    """Replace this process by the program, with exactly the environment that was named."""
    names = spec["environment"]
    environment = {name: os.environ[name] for name in names if name in os.environ}
    os.chdir(spec["cwd"])
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    program = spec["argv"][0]
    try:
        os.execvpe(program, spec["argv"], environment)
    except OSError as error:
        complain(f"cannot start {program}: {error.strerror}")
        os._exit(126)


def enter(spec: dict[str, Any]) -> NoReturn:
    """Run inside bubblewrap: limits, user, program."""
    limit(spec)
    drop(spec["uid"], spec["capabilities"])
    execute(spec)


def complain(text: str) -> None:
    """Say one line on standard error."""
    try:
        os.write(2, (MESSAGE + text + "\n").encode(errors="replace"))
    except OSError:
        pass


# ---------------------------------------------------------------- control groups


class Group:
    """A control group for memory and processes, where the system lets us make one."""

    def __init__(self, memory_mb: int, max_processes: int) -> None:
        self.directories: list[str] = []
        self.memory_mb = memory_mb
        try:
            self._make(memory_mb, max_processes)
        except OSError:
            self.remove()

    def _make(self, memory_mb: int, max_processes: int) -> None:
        with open("/proc/self/cgroup") as lines:
            entries = [line.strip().split(":", 2) for line in lines]
        for _, controllers, path in entries:
            if not controllers and os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
                # Version 2: a group with processes has no child groups with limits, so a sibling.
                parent = os.path.dirname("/sys/fs/cgroup" + path.rstrip("/"))
                with open(parent + "/cgroup.subtree_control") as enabled:
                    if not {"memory", "pids"} <= set(enabled.read().split()):
                        continue
                directory = self._add(parent)
                if memory_mb:
                    put(directory + "/memory.max", memory_mb << 20)
                    try_put(directory + "/memory.swap.max", 0)
                put(directory + "/pids.max", max_processes)
            for name in set(controllers.split(",")) & {"memory", "pids"}:
                if name == "memory" and not memory_mb:
                    continue
                directory = self._add(f"/sys/fs/cgroup/{name}{path.rstrip('/')}")
                if name == "memory":
                    put(directory + "/memory.limit_in_bytes", memory_mb << 20)
                    try_put(directory + "/memory.memsw.limit_in_bytes", memory_mb << 20)
                else:
                    put(directory + "/pids.max", max_processes)

    def _add(self, parent: str) -> str:
        for name in os.listdir(parent):
            pid = name.removeprefix("autoresearch-")
            if pid != name and not os.path.exists(f"/proc/{pid}"):
                try:
                    os.rmdir(f"{parent}/{name}")  # one that a killed keeper left
                except OSError:
                    pass
        directory = f"{parent}/autoresearch-{os.getpid()}"
        os.mkdir(directory)
        self.directories.append(directory)
        return directory

    def join(self) -> None:
        """Move the calling process in."""
        for directory in self.directories:
            put(directory + "/cgroup.procs", 0)

    def processes(self) -> set[int]:
        """Return the ids of everything in the group, escaped daemons included."""
        found: set[int] = set()
        for directory in self.directories:
            try:
                with open(directory + "/cgroup.procs") as lines:
                    found.update(int(line) for line in lines)
            except OSError:
                pass
        return found

    def was_out_of_memory(self) -> bool:
        """Whether the kernel killed something for the limit."""
        for directory in self.directories:
            for name in ("memory.events", "memory.oom_control"):
                try:
                    with open(f"{directory}/{name}") as lines:
                        for line in lines:
                            if line.startswith("oom_kill ") and int(line.split()[1]) > 0:
                                return True
                except OSError:
                    pass
        return False

    def remove(self) -> None:
        """Take the groups away again."""
        for directory in self.directories:
            for _ in range(50):
                try:
                    os.rmdir(directory)
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)
                    continue
                break
        self.directories = []


def put(path: str, value: int) -> None:
    """Write a number into a control file."""
    with open(path, "w") as file:
        file.write(str(value))


def try_put(path: str, value: int) -> None:
    """Write a number into a control file that may be missing."""
    try:
        put(path, value)
    except OSError:
        pass


# ---------------------------------------------------------------- the broker


class Broker:
    """Answers the calls that Landlock cannot judge, doing them itself on checked names.

    Connections to local sockets reach only sockets inside the private home. Names in /dev/shm live
    in a private folder, so that nothing stays there. On kernels whose Landlock does not keep signals in,
    signals reach only the child's own tree. What concerns none of these goes on in the kernel, where
    Landlock still judges it: a name swapped under our eyes gains nothing.
    """

    _RECEIVE, _SEND, _ADD, _VALID = 0xC0502100, 0xC0182101, 0x40182103, 0x40082102
    _CONTINUE, _ADD_AND_SEND = 1, 2
    _BENEATH = 0x08 | 0x04 | 0x02

    def __init__(self, listener: int, home: str, root: int, needs_network: bool) -> None:
        import fcntl

        self.ioctl = fcntl.ioctl
        self.listener = listener
        self.home = home
        self.root = root
        self.needs_network = needs_network
        self.home_descriptor = os.open(home, _O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        shared = os.path.join(home, ".shm")
        os.makedirs(shared, mode=0o700, exist_ok=True)
        self.shared = os.open(shared, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        column = 1 if _IS_ARM else 0
        table = {
            self.connect: ((42, 203),),
            self.open: ((2, -1), (257, 56)),
            self.link: ((86, -1), (265, 37)),
            self.unlink: ((87, -1), (263, 35)),
            self.kill: ((62, 129), (200, 130), (234, 131), (129, 138), (297, 240)),
        }
        self.calls = {pair[column]: call for call, pairs in table.items() for pair in pairs}
        self.short = {2, 86, 87} if not _IS_ARM else set()
        """Calls without a directory argument."""

    def answer(self) -> None:
        """Receive one call and answer it."""
        buffer = bytearray(80)
        try:
            self.ioctl(self.listener, self._RECEIVE, buffer)
        except OSError:
            return  # the caller died meanwhile
        identity, pid, _, number, _, _, *arguments = struct.unpack("=QIIiIQ6Q", buffer)
        call = self.calls.get(number)
        if call is None:
            self.reply(identity, 0, flags=self._CONTINUE)
        elif call == self.connect:
            import _thread

            # It may block: the callers wait each for itself, never the keeper.
            _thread.start_new_thread(self.guard, (call, identity, pid, number, arguments))
        else:
            self.guard(call, identity, pid, number, arguments)

    def guard(
        self, call: Callable[..., Any], identity: int, pid: int, number: int, arguments: list[int]
    ) -> None:
        """Run one call; a failure is the caller's."""
        try:
            result = call(identity, pid, number, arguments)
        except OSError as error:
            result = -(error.errno or errno.EPERM)
        except (ValueError, IndexError, struct.error):
            result = -errno.EINVAL
        if result is None:
            self.reply(identity, 0, flags=self._CONTINUE)
        elif result != "sent":
            self.reply(identity, result)

    def reply(self, identity: int, value: int, flags: int = 0) -> None:
        """Send the result: 0, a negative error number, or on with it in the kernel."""
        try:
            self.ioctl(self.listener, self._SEND, struct.pack("=QqiI", identity, 0, value, flags))
        except OSError:
            pass  # the caller died meanwhile

    def read(self, identity: int, pid: int, address: int, size: int) -> bytes:
        """Return up to `size` bytes of the caller's memory."""
        descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # A page at most in one piece: the next may not be mapped.
            first = min(size, 4096 - address % 4096)
            data = os.pread(descriptor, first, address)
            if len(data) == first < size and b"\0" not in data:
                try:
                    data += os.pread(descriptor, size - first, address + first)
                except OSError:
                    pass
        finally:
            os.close(descriptor)
        self.ioctl(self.listener, self._VALID, struct.pack("=Q", identity))
        return data

    def name(self, identity: int, pid: int, address: int) -> bytes | None:
        """Return the name in /dev/shm that a path argument means, or None for any other path."""
        path = self.read(identity, pid, address, 4096).split(b"\0", 1)[0]
        if not path.startswith(b"/dev/shm/"):
            return None
        name = path[9:]
        if not name or b"/" in name or name in (b".", b".."):
            raise OSError(errno.EACCES, "not a name")
        return name

    def open(self, identity: int, pid: int, number: int, arguments: list[int]) -> str | None:
        """Open a name in /dev/shm in the private folder and give the descriptor to the caller."""
        first = 0 if number in self.short else 1
        name = self.name(identity, pid, arguments[first])
        if name is None:
            return None
        flags, mode = arguments[first + 1] & 0x7FFFFFFF, arguments[first + 2] & 0o777
        descriptor = os.open(
            name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode | 0o600, dir_fd=self.shared
        )
        try:
            keep = os.O_CLOEXEC if flags & os.O_CLOEXEC else 0
            request = struct.pack("=QIIII", identity, self._ADD_AND_SEND, descriptor, 0, keep)
            self.ioctl(self.listener, self._ADD, request)
        finally:
            os.close(descriptor)
        return "sent"

    def link(self, identity: int, pid: int, number: int, arguments: list[int]) -> int | None:
        """Link two names in /dev/shm."""
        old, new = (0, 1) if number in self.short else (1, 3)
        source = self.name(identity, pid, arguments[old])
        target = self.name(identity, pid, arguments[new])
        if source is None and target is None:
            return None
        if source is None or target is None:
            return -errno.EXDEV
        os.link(
            source, target, src_dir_fd=self.shared, dst_dir_fd=self.shared, follow_symlinks=False
        )
        return 0

    def unlink(self, identity: int, pid: int, number: int, arguments: list[int]) -> int | None:
        """Remove a name in /dev/shm."""
        name = self.name(identity, pid, arguments[0 if number in self.short else 1])
        if name is None:
            return None
        os.unlink(name, dir_fd=self.shared)
        return 0

    def connect(self, identity: int, pid: int, number: int, arguments: list[int]) -> int:
        """Connect a caller's socket, to a local one inside the private home only."""
        del number
        size = arguments[2] & 0xFFFFFFFF
        if not 2 <= size <= 128:
            return -errno.EINVAL
        address = self.read(identity, pid, arguments[1], size)
        family = struct.unpack_from("=H", address)[0]
        if family != 1:
            if not self.needs_network or family not in (2, 10, 16):
                return -errno.EACCES
            return self.connect_to(pid, arguments[0], address)
        path = address[2:].split(b"\0", 1)[0].decode(errors="surrogateescape")
        if not path:
            return -errno.ECONNREFUSED
        path = os.path.normpath(os.path.join(os.readlink(f"/proc/{pid}/cwd"), path))
        if not path.startswith(self.home + "/"):
            return -errno.EACCES
        inner = path[len(self.home) + 1 :].encode(errors="surrogateescape") + b"\0"
        how = struct.pack("=QQQ", _O_PATH | os.O_CLOEXEC, 0, self._BENEATH)
        target = syscall("openat2", self.home_descriptor, inner, how, len(how))
        try:
            link = struct.pack("=H", 1) + f"/proc/self/fd/{target}".encode() + b"\0"
            return self.connect_to(pid, arguments[0], link)
        finally:
            os.close(target)

    def connect_to(self, pid: int, descriptor: int, address: bytes) -> int:
        """Connect socket `descriptor` of process `pid` to `address`; return the result."""
        process = os.pidfd_open(thread_group(pid))
        try:
            duplicate = syscall("pidfd_getfd", process, descriptor & 0xFFFFFFFF, 0)
        finally:
            os.close(process)
        try:
            if _LIBC.connect(duplicate, address, len(address)) != 0:
                return -ctypes.get_errno()
            return 0
        finally:
            os.close(duplicate)

    def kill(self, identity: int, pid: int, number: int, arguments: list[int]) -> int | None:
        """Let a signal through when it stays in the child's own tree."""
        del identity, number
        target = struct.unpack("=i", struct.pack("=I", arguments[0] & 0xFFFFFFFF))[0]
        if target == -1:
            return -errno.EPERM
        if target <= 0:
            group = -target or os.getpgid(pid)
            return None if os.getsid(group) == self.root else -errno.EPERM
        return None if target in descendants(os.getpid()) else -errno.EPERM


def thread_group(pid: int) -> int:
    """Return the process of a thread."""
    with open(f"/proc/{pid}/status") as lines:
        for line in lines:
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    return pid


def send_descriptor(channel: Any, descriptor: int) -> None:
    """Hand a descriptor over to the keeper (SCM_RIGHTS)."""
    import _socket

    data = struct.pack("=i", descriptor)
    channel.sendmsg([b"x"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, data)])


def receive_descriptor(channel: Any) -> int | None:
    """Return the descriptor the child sent, or None when it died first."""
    data, extra, _, _ = channel.recvmsg(1, 64)
    if not data or not extra:
        return None
    return int(struct.unpack("=i", extra[0][2][:4])[0])


# ---------------------------------------------------------------- the keeper


def descendants(pid: int) -> set[int]:
    """Return the ids of all processes below `pid`, threads not counted."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rsplit(b")", 1)[1].split()
            except (OSError, IndexError):
                continue
            if fields[0] != b"Z":
                children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    todo = [pid]
    while todo:
        new = children.get(todo.pop(), [])
        found += new
        todo += new
    return set(found)


def usage(pids: Iterable[int]) -> tuple[int, int]:
    """Return (memory in MB, threads) of processes, shared pages counted by share where possible."""
    memory = threads = 0
    page = os.sysconf("SC_PAGESIZE")
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                fields = file.read().split()
            memory += (int(fields[1]) - int(fields[2])) * page
            with open(f"/proc/{pid}/stat", "rb") as file:
                threads += int(file.read().rsplit(b")", 1)[1].split()[17])
        except (OSError, IndexError, ValueError):
            continue
    return memory >> 20, threads


def measure(folder: str) -> tuple[int, str]:
    """Return what a folder holds in MB, by blocks, and what is wrong with its shape.

    Symbolic links are not followed. A tree that is too deep or too full to be looked through is told as such: its
    contents could not be counted.
    """
    total = num_entries = 0
    todo = [(folder, 0)]
    while todo:
        path, depth = todo.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    num_entries += 1
                    try:
                        total += entry.stat(follow_symlinks=False).st_blocks
                        if entry.is_dir(follow_symlinks=False):
                            todo.append((entry.path, depth + 1))
                    except OSError:
                        continue
        except OSError:
            continue
        if depth > MAX_DEPTH:
            return total >> 11, f"limit of {MAX_DEPTH} nested folders"
        if num_entries > MAX_ENTRIES:
            return total >> 11, f"limit of {MAX_ENTRIES} files"
    return total >> 11, ""


def wipe(folder: str) -> None:
    """Remove everything in a folder, without following a symbolic link, however deep it is.

    Folders in folders are first moved to the top, so that no path grows and nothing recurses.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    top = os.open(folder, flags)
    number, before = 0, None
    while (names := os.listdir(top)) and names != before:
        before = names
        for name in names:
            try:
                if os.stat(name, dir_fd=top, follow_symlinks=False).st_mode & 0o170000 == 0o040000:
                    os.chmod(name, 0o700, dir_fd=top)
                inner = os.open(name, flags, dir_fd=top)
            except OSError:
                remove(name, top)
                continue
            for child in os.listdir(inner):
                number += 1
                try:
                    os.rename(child, f"{number}.wiped", src_dir_fd=inner, dst_dir_fd=top)
                except OSError:
                    remove(child, inner)
            os.close(inner)
            remove(name, top)
    os.close(top)


def remove(name: str, folder: int) -> None:
    """Remove one file or empty folder of an open folder."""
    for remover in (os.unlink, os.rmdir):
        try:
            remover(name, dir_fd=folder)
        except OSError:
            continue
        return


def remove_shared(uid: int) -> None:
    """Remove the names in /dev/shm that a throw-away uid left; nobody else has it."""
    with os.scandir("/dev/shm") as entries:  # noqa: S108
        for entry in entries:
            try:
                if entry.stat(follow_symlinks=False).st_uid == uid:
                    os.unlink(entry.path)
            except OSError:
                continue


class Keeper:
    """Starts the child, watches it, and leaves nothing of it."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.identity = os.getpid()
        self.parent = os.getppid()
        self.should_stop = False
        self.broken = ""
        self.group = Group(spec["memory_mb"], spec["max_processes"])
        self.broker: Broker | None = None
        self.child = 0

    def run(self) -> int:
        """Run the child to its end; return its wait status."""
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.stop)
        channel = self.start()
        for descriptor in self.spec["inherit"]:
            os.close(descriptor)
        if channel is not None:
            listener = receive_descriptor(channel)
            channel.close()
            if listener is not None:
                self.broker = Broker(
                    listener, self.spec["home"], self.child, self.spec["needs_network"]
                )
        status = self.watch()
        self.sweep()
        if self.broken and "memory" not in self.broken:
            status = EXIT_LIMIT << 8
        if not self.broken and self.group.was_out_of_memory():
            self.broken = f"memory limit of {self.spec['memory_mb']} MB"
        self.group.remove()
        if self.spec["uid"] is not None:
            remove_shared(self.spec["uid"])
        if self.spec["wipe"]:
            wipe(self.spec["home"])
        if self.broken:
            complain(f"killed: {self.broken} exceeded")
        return status

    def stop(self, *_: object) -> None:
        """Note that it is over."""
        self.should_stop = True

    def start(self) -> Any:
        """Fork the child; return the channel on which it sends the broker's listener."""
        ours = theirs = None
        if self.spec["backend"] == "landlock" and self.spec["has_broker"]:
            import _socket

            ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
        self.child = os.fork()
        if self.child:
            if theirs is not None:
                theirs.close()
            return ours
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            # When memory runs out, the child goes before the lab.
            try_put("/proc/self/oom_score_adj", 800)
            self.group.join()
            if self.spec["backend"] == "bubblewrap":
                self.become_bubblewrap()
            else:
                self.become_landlocked(theirs)
        except BaseException as error:  # noqa: BLE001
            complain(f"cannot start: {error}")
        finally:
            os._exit(125)

    def become_bubblewrap(self) -> NoReturn:
        """Start bubblewrap with the filter in a memory file."""
        program = bytes.fromhex(self.spec["filter"])
        descriptor = os.memfd_create("filter", 0)
        os.write(descriptor, program)
        os.lseek(descriptor, 0, os.SEEK_SET)
        arguments = [a.replace("{filter}", str(descriptor)) for a in self.spec["bubblewrap"]]
        os.execve(arguments[0], arguments, dict(os.environ))

    def become_landlocked(self, channel: Any) -> NoReturn:
        """Confine this process and start the program."""
        spec = self.spec
        limit(spec)
        if spec["has_session"]:
            os.setsid()
        drop(spec["uid"], spec["capabilities"])
        # Landlock first: the filter may hold calls for a broker that has not answered yet.
        confine(spec["rules"], spec["abi"])
        # A change of user takes the death signal away.
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self.identity:
            os._exit(125)
        listener = install_filter(bytes.fromhex(spec["filter"]), channel is not None)
        if channel is not None:
            send_descriptor(channel, listener)
            channel.close()
            os.close(listener)
        execute(spec)

    def watch(self) -> int:
        """Answer and look after the child until it ends; return its wait status."""
        process = os.pidfd_open(self.child)
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if self.broker is not None:
            poll.register(self.broker.listener, select.POLLIN)
        next_look = time.monotonic() + TICK_SECONDS
        is_killed = False
        while True:
            wait = max(0.0, next_look - time.monotonic())
            for descriptor, event in poll.poll(wait * 1000):
                if descriptor == process:
                    return os.waitpid(self.child, 0)[1]
                if self.broker is not None and event & select.POLLIN:
                    self.broker.answer()
                else:
                    poll.unregister(descriptor)
            if self.should_stop or time.monotonic() >= next_look:
                began = time.monotonic()
                self.look()
                # A full folder takes long to look through: at most a tenth of the time goes into it.
                now = time.monotonic()
                next_look = now + max(TICK_SECONDS, 10 * (now - began))
            if (self.should_stop or self.broken) and not is_killed:
                is_killed = True
                self.kill_tree()

    def look(self) -> None:
        """Compare what the tree uses with its limits."""
        spec = self.spec
        if os.getppid() != self.parent:
            self.should_stop = True
        disk_mb, problem = measure(spec["home"])
        if disk_mb > spec["disk_mb"]:
            problem = f"disk limit of {spec['disk_mb']} MB"
        self.broken = problem
        if not self.group.directories:
            memory, threads = usage(descendants(os.getpid()))
            if spec["memory_mb"] and memory > spec["memory_mb"]:
                self.broken = f"memory limit of {spec['memory_mb']} MB"
            if threads > spec["max_processes"] + 8:
                self.broken = f"limit of {spec['max_processes']} processes"

    def kill_tree(self) -> None:
        """Kill everything below the keeper once."""
        for pid in descendants(os.getpid()) | self.group.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass

    def sweep(self) -> None:
        """Kill and reap until nothing is left; what was orphaned has come to us."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                if not self.group.processes():
                    return
            self.kill_tree()
            time.sleep(0.002)


def main() -> None:
    """Read the specification and do what it says."""
    spec = marshal.loads(bytes.fromhex(sys.argv[1]))  # noqa: S302
    if spec["mode"] == "enter":
        enter(spec)
    status = Keeper(spec).run()
    code = os.waitstatus_to_exitcode(status)
    if spec["backend"] == "bubblewrap" and 128 < code <= 128 + 31:
        code = 128 - code  # how bubblewrap reports a signal
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        code = 128 - code
    sys.exit(code)


if __name__ == "__main__":
    main()
