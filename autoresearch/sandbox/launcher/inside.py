"""What a child does to itself before it becomes the program: limits, user, Landlock, filter."""

from __future__ import annotations

import ctypes
import os
import resource
import struct

from .kernel import (
    MB,
    O_PATH,
    PR_CAP_AMBIENT,
    PR_CAPBSET_DROP,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
    complain,
    prctl,
    syscall,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable, Sequence
    from typing import Any, NoReturn
else:
    import _signal as signal  # the public module brings enum and re, a third of the start

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


def limit(spec: dict[str, Any]) -> None:
    """Set the resource limits a child cannot raise again."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: spec["max_processes"],
        resource.RLIMIT_FSIZE: spec["disk_mb"] * MB,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for name, value in limits.items():
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


def drop(uid: int | None, groups: Sequence[int], capabilities: int) -> None:
    """Become `uid` for good, or stay and lose every capability.

    Args:
        uid: None keeps the user and its groups.
        groups: What `uid` may be a member of, besides its own.
        capabilities: Bits to keep (reading where the lab's own home is private).
    """
    for number in range(64):
        if not capabilities >> number & 1:
            try:
                prctl(PR_CAPBSET_DROP, number)
            except OSError:
                pass  # not permitted to an ordinary user, who has none to lose
    if uid is not None:
        prctl(PR_SET_KEEPCAPS, 1)
        os.setgroups(groups)
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    header = struct.pack("=Ii", 0x20080522, 0)
    low = capabilities & 0xFFFFFFFF
    syscall("capset", header, struct.pack("=6I", low, low, low, 0, 0, 0))
    for number in range(32):
        if capabilities >> number & 1:
            prctl(PR_CAP_AMBIENT, 2, number)
    prctl(PR_SET_NO_NEW_PRIVS, 1)


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
            descriptor = os.open(path, O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rights = _RIGHTS[kind] & handled
        if os.fstat(descriptor).st_mode & 0o170000 != 0o040000:
            rights &= _FILE_RIGHTS
        syscall("landlock_add_rule", ruleset, 1, struct.pack("=Qi", rights, descriptor), 0)
        os.close(descriptor)
    syscall("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)


def scope() -> None:
    """Enter a Landlock domain that keeps abstract sockets and signals in, and rules over nothing else (ABI 6)."""
    attributes = struct.pack("=QQQ", 0, 0, 3)
    ruleset = syscall("landlock_create_ruleset", attributes, len(attributes), 0)
    syscall("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)


def allow_ports(ports: Iterable[int]) -> None:
    """Enter a Landlock domain in which TCP connects to these ports only, and rules over nothing else (ABI 4)."""
    attributes = struct.pack("=QQ", 0, 2)
    ruleset = syscall("landlock_create_ruleset", attributes, len(attributes), 0)
    for port in ports:
        syscall("landlock_add_rule", ruleset, 2, struct.pack("=QQ", 2, port), 0)
    syscall("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)


def install_filter(program: bytes, is_listening: bool) -> int:
    """Install the BPF program; return the listener's descriptor, or 0 without one."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    return syscall("seccomp", 1, 8 if is_listening else 0, header)


def execute(spec: dict[str, Any]) -> NoReturn:
    """Replace this process by the program, with exactly the environment that was named."""
    if spec["ports"] is not None and spec["abi"] >= 4:
        allow_ports(spec["ports"])
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
    """Run inside bubblewrap: limits, user, names of local sockets, program."""
    limit(spec)
    drop(spec["uid"], spec["groups"], spec["capabilities"])
    if spec["has_scope"]:
        scope()
    execute(spec)
