"""Our system-call filter: classic BPF assembled here, for x86-64 and arm64, without any library.

The filter is a list of what is refused, not of what is allowed: a training script may use any
framework. What it closes is every way out that a file sandbox leaves open (networks, tracing,
namespaces, mounts, kernel interfaces, keyrings, names that outlive the process) and every call that
is newer than this table. What it does NOT do is look at memory: paths and addresses are for the
backend (a mount namespace, Landlock, or the broker of the launcher, which `notify` wakes).

Source: the encoding is that of linux/filter.h and linux/seccomp.h; numbers are those of the
kernel's own tables (asm/unistd_64.h, asm-generic/unistd.h).
"""

# ruff: noqa: SIM905
# Long lists of words read better as words.

import errno
import functools
import os
import re
import struct
from dataclasses import dataclass

ALLOW = 0x7FFF0000
NOTIFY = 0x7FC00000
KILL = 0x80000000
_ERRNO = 0x00050000
_PRETEND = _ERRNO
"""The call returns 0 and does nothing."""
_NO_SUCH = _ERRNO | errno.ENOTTY
"""As on a file system that has no such call."""

_LOAD, _AND, _JEQ, _JGT, _JSET, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x45, 0x06
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NEWEST = 462
"""Calls with a higher number than this (mseal) answer ENOSYS until someone has looked at them."""

# name: (x86_64, aarch64); None where the machine has no such call.
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "_sysctl": (156, None),
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "brk": (12, 214),
    "cachestat": (451, 451),
    "chmod": (90, None),
    "chown": (92, None),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_getres": (229, 114),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "close": (3, 57),
    "connect": (42, 203),
    "creat": (85, None),
    "delete_module": (176, 106),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "epoll_ctl": (233, 21),
    "epoll_pwait": (281, 22),
    "epoll_wait": (232, None),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "fadvise64": (221, 223),
    "fanotify_init": (300, 262),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "fcntl": (72, 25),
    "finit_module": (313, 273),
    "flock": (73, 32),
    "fremovexattr": (199, 16),
    "fsconfig": (431, 431),
    "fsetxattr": (190, 7),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "fstat": (5, 80),
    "futex": (202, 98),
    "futex_waitv": (449, 449),
    "futimesat": (261, None),
    "get_mempolicy": (239, 236),
    "getcpu": (309, 168),
    "getegid": (108, 177),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getrandom": (318, 278),
    "getrusage": (98, 165),
    "gettid": (186, 178),
    "gettimeofday": (96, 169),
    "getuid": (102, 174),
    "init_module": (175, 105),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioctl": (16, 29),
    "ioperm": (173, None),
    "iopl": (172, None),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "kill": (62, 129),
    "lchown": (94, None),
    "link": (86, None),
    "linkat": (265, 37),
    "listmount": (458, 458),
    "lookup_dcookie": (212, 18),
    "lremovexattr": (198, 15),
    "lseek": (8, 62),
    "lsetxattr": (189, 6),
    "madvise": (28, 233),
    "mbind": (237, 235),
    "membarrier": (324, 283),
    "mincore": (27, 232),
    "mmap": (9, 222),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mprotect": (10, 226),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "mremap": (25, 216),
    "msgctl": (71, 187),
    "msgget": (68, 186),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
    "munmap": (11, 215),
    "name_to_handle_at": (303, 264),
    "nanosleep": (35, 101),
    "nfsservctl": (180, 42),
    "open": (2, None),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "openat": (257, 56),
    "openat2": (437, 437),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "poll": (7, None),
    "ppoll": (271, 73),
    "prctl": (157, 167),
    "pread64": (17, 67),
    "preadv2": (327, 286),
    "prlimit64": (302, 261),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pselect6": (270, 72),
    "ptrace": (101, 117),
    "pwrite64": (18, 68),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "read": (0, 63),
    "readv": (19, 65),
    "reboot": (169, 142),
    "recvfrom": (45, 207),
    "removexattr": (197, 14),
    "request_key": (249, 218),
    "restart_syscall": (219, 128),
    "rseq": (334, 293),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigqueueinfo": (129, 138),
    "rt_sigreturn": (15, 139),
    "rt_tgsigqueueinfo": (297, 240),
    "sched_getaffinity": (204, 123),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_yield": (24, 124),
    "select": (23, None),
    "semctl": (66, 191),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "sendmmsg": (307, 269),
    "sendmsg": (46, 211),
    "sendto": (44, 206),
    "set_mempolicy": (238, 237),
    "set_robust_list": (273, 99),
    "set_tid_address": (218, 96),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setpriority": (141, 140),
    "settimeofday": (164, 170),
    "setxattr": (188, 5),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmget": (29, 194),
    "shutdown": (48, 210),
    "sigaltstack": (131, 132),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "statmount": (457, 457),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sysfs": (139, None),
    "sysinfo": (99, 179),
    "syslog": (103, 116),
    "tgkill": (234, 131),
    "time": (201, None),
    "times": (100, 153),
    "tkill": (200, 130),
    "truncate": (76, 45),
    "umount2": (166, 39),
    "uname": (63, 160),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "unshare": (272, 97),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "ustat": (136, None),
    "utime": (132, None),
    "utimensat": (280, 88),
    "utimes": (235, None),
    "vhangup": (153, 58),
    "wait4": (61, 260),
    "waitid": (247, 95),
    "write": (1, 64),
    "writev": (20, 66),
}

_REFUSED = (
    "unshare setns mount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount "
    "fspick mount_setattr ptrace process_vm_readv process_vm_writev process_madvise bpf "
    "perf_event_open keyctl add_key request_key kexec_load kexec_file_load init_module "
    "finit_module delete_module reboot swapon swapoff acct settimeofday clock_settime "
    "clock_adjtime adjtimex quotactl quotactl_fd open_by_handle_at name_to_handle_at userfaultfd "
    "fanotify_init lookup_dcookie nfsservctl iopl ioperm syslog sethostname setdomainname vhangup "
    "pidfd_getfd kcmp modify_ldt uselib ustat sysfs _sysctl shmget shmat shmctl semget semop semtimedop "
    "semctl msgget msgsnd msgrcv msgctl mq_open mq_unlink"
).split()
_ABSENT = (
    "io_uring_setup io_uring_enter io_uring_register clone3 statmount listmount cachestat mincore"
).split()
"""The last two tell which pages of a file are in memory: a note from the claim to the audit."""
_METADATA = (
    "chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat "
    "setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr"
).split()
_TIMES = {"utime": 1, "utimes": 1, "futimesat": 2, "utimensat": 2}
"""Calls that set the times of a file: index of the argument that is 0 for "now"."""
_PATIENT = (
    "read write readv writev pread64 pwrite64 lseek close dup dup2 dup3 fstat poll ppoll select pselect6 epoll_wait "
    "epoll_pwait epoll_ctl recvfrom shutdown brk mmap munmap mremap mprotect mbind set_mempolicy get_mempolicy "
    "futex futex_waitv membarrier rseq set_robust_list set_tid_address sched_yield sched_getaffinity "
    "sched_setaffinity getcpu nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times getrusage "
    "prlimit64 sysinfo uname getpid gettid getppid getuid geteuid getgid getegid getrandom rt_sigaction "
    "rt_sigprocmask rt_sigreturn sigaltstack restart_syscall wait4 waitid exit exit_group"
).split()
"""What a model that was shown rows may still call: memory, threads that are there, open descriptors, clocks."""
_SIGNALS = "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo".split()
_FOREIGN = "prlimit64 sched_setaffinity sched_setscheduler sched_setparam sched_setattr".split()

_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP = 0x5412, 0x541C, 0x8901, 0x8902
_DESCRIPTOR_CALLS = (0x541B, 0x5421, 0x5450, 0x5451)
"""FIONREAD, FIONBIO, FIONCLEX, FIOCLEX."""
_F_OWNERS = (8, 10, 15, 1024, 1026, 1036, 1038)
"""F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY: signals to others, and news of what they do with files; and
F_SET_RW_HINT, F_SET_FILE_RW_HINT: marks on files that are only read."""
_FILE_SYSTEMS = (0x5800, 0x6600, 0x7600, 0x9400)
"""Kinds of ioctl by which its owner changes the attributes of a file that is only read, past Landlock: of XFS, ext4 and
others, btrfs (which makes and drops whole volumes), and copies that share blocks."""
_F_OWN = (0, 1, 2, 3, 4, 1030)
"""F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC."""
_SHARED_ADVICE = (9, 14, 20, 21, 25)
"""MADV_REMOVE, HUGEPAGE, COLD, PAGEOUT, COLLAPSE: what others can measure on pages of a file."""
_PR_SET_PDEATHSIG = 1
_RWF_NOWAIT = 8
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_STREAM, _DGRAM, _SEQPACKET = 1, 2, 5
_TCP = 6
_MSG_FASTOPEN = 0x20000000
"""Connects without a call of `connect`, which is what Landlock and the broker look at."""

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True)
class FilterOptions:
    """What differs between backends, kernels and profiles."""

    needs_network: bool = False
    """Internet sockets are allowed (a coding agent that proposes)."""
    has_broker: bool = False
    """Calls that name a path or a socket under Landlock go to the broker."""
    has_private_names: bool = True
    """Mount, network and process namespaces stand behind the filter; else it must do their part."""
    has_scopes: bool = True
    """Landlock keeps signals and abstract sockets in (ABI 6 and later)."""
    has_truncate: bool = True
    """Landlock controls truncation (ABI 3 and later)."""
    is_same_user: bool = False
    """The child has the lab's own uid: it must not touch what that uid owns."""
    is_sealed_later: bool = False
    """The broker comes with `build_seal`: until then what is for it is allowed."""


@functools.cache
def can_seal() -> bool:
    """Whether the kernel lets a filter be put over all threads and ask a broker (Linux 5.7)."""
    uname = os.uname()
    release = [int(word) for word in re.findall(r"\d+", uname.release)[:2]]
    return uname.sysname == "Linux" and supports(uname.machine) and release >= [5, 7]


def supports(machine: str) -> bool:
    """Whether there is a filter for `os.uname().machine`."""
    return machine in _ARCHITECTURE


def build_filter(options: FilterOptions, machine: str | None = None) -> bytes:
    """Return the BPF program as the kernel takes it, 8 bytes an instruction.

    Raises:
        KeyError: there is no filter for this machine.
    """
    machine = machine or os.uname().machine
    blocks = _blocks(options)
    if options.is_sealed_later:
        asks, allows = _give(NOTIFY)[0], _give(ALLOW)[0]
        blocks = [(name, [allows if code == asks else code for code in b]) for name, b in blocks]
    return _assemble(blocks, ALLOW, machine)


def build_seal(*, needs_gpu: bool, machine: str | None = None) -> bytes:
    """Return the program that a judge's child puts itself under before it runs code that is not ours.

    It asks the broker for every call that `_PATIENT` does not name. The broker lets them pass, or does them, until the
    child is about to be shown rows; then it refuses them.

    Args:
        needs_gpu: It may speak to the devices it has open.
        machine: As `os.uname().machine` names it; None is this one.
    """
    blocks = [(name, _give(ALLOW)) for name in _PATIENT]
    # To a connected socket only: an address may be a path.
    blocks.append(("sendto", _if_equal(5, (0,), ALLOW, otherwise=NOTIFY)))
    blocks.append(("fcntl", _if_equal(1, _F_OWN, ALLOW, otherwise=NOTIFY)))
    blocks.append(("madvise", _if_equal(2, _SHARED_ADVICE, NOTIFY)))
    others = ALLOW if needs_gpu else NOTIFY
    blocks.append(("ioctl", _if_equal(1, _DESCRIPTOR_CALLS, ALLOW, otherwise=others)))
    return _assemble(blocks, NOTIFY, machine or os.uname().machine)


def _assemble(blocks: list[tuple[str, list[Instruction]]], otherwise: int, machine: str) -> bytes:
    program: list[Instruction] = [
        (_LOAD, 0, 0, 4),
        (_JEQ, 1, 0, _ARCHITECTURE[machine]),
        (_RETURN, 0, 0, KILL),
        (_LOAD, 0, 0, 0),
        (_JGT, 0, 1, _NEWEST),
        (_RETURN, 0, 0, _refuse(errno.ENOSYS)),
    ]
    for name, block in blocks:
        number = _NUMBERS[name][0 if machine == "x86_64" else 1]
        if number is not None:
            program += [(_JEQ, 0, len(block), number), *block]
    program.append((_RETURN, 0, 0, otherwise))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def patient_calls(machine: str | None = None) -> list[int]:
    """Return the numbers of the calls that a sealed child may make, or wait in."""
    column = 0 if (machine or os.uname().machine) == "x86_64" else 1
    names = (*_PATIENT, "fcntl", "ioctl", "madvise", "sendto")
    return sorted(number for name in names if (number := _NUMBERS[name][column]) is not None)


def _refuse(number: int) -> int:
    return _ERRNO | number


def _give(action: int) -> list[Instruction]:
    return [(_RETURN, 0, 0, action)]


def _argument(index: int) -> Instruction:
    """Load the low half of an argument; both machines are little-endian."""
    return (_LOAD, 0, 0, 16 + 8 * index)


def _blocks(options: FilterOptions) -> list[tuple[str, list[Instruction]]]:
    """Return the rules as (call, instructions); each block ends in a return on every path."""
    blocks = [(name, _give(_refuse(errno.EPERM))) for name in _REFUSED]
    blocks += [(name, _give(_refuse(errno.ENOSYS))) for name in _ABSENT]
    blocks.append(("clone", _if_any(0, _NEW_NAMESPACES, _refuse(errno.EPERM))))
    blocks.append(("fcntl", _if_equal(1, _F_OWNERS, _refuse(errno.EPERM))))
    calls = (_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP)
    single = _if_equal(1, calls, _refuse(errno.EPERM))[:-1]
    kind: list[Instruction] = [(_AND, 0, 0, 0xFF00), *_if_equal(1, _FILE_SYSTEMS, _NO_SUCH)[1:]]
    blocks.append(("ioctl", [*single, *kind]))
    # Of one process, never of all that the user has.
    whose = _unless_zero(1) if options.is_same_user else _give(ALLOW)
    for name, one in (("setpriority", 0), ("ioprio_set", 1)):
        no = _give(_refuse(errno.EPERM))
        blocks.append((name, [_argument(0), (_JEQ, len(no), 0, one), *no, *whose]))
    blocks.append(("prctl", _if_equal(0, (_PR_SET_PDEATHSIG,), _PRETEND)))
    # It would wipe pages of a file from memory, on which notes for a later trial could be written again and again.
    blocks.append(("fadvise64", _give(_PRETEND)))
    # As where the user has no watch left, which programs expect.
    blocks += [(name, _give(_refuse(errno.EMFILE))) for name in ("inotify_init", "inotify_init1")]
    # "Now" may be set on any file that may be written, /dev/null too: refused, so that who makes sure that a file
    # is there opens it. What sets other times is content if nothing happens.
    for name, index in _TIMES.items():
        now = _if_equal(index, (0,), _refuse(errno.EPERM), otherwise=_PRETEND)
        of_descriptor = [_argument(1), (_JEQ, 0, 1, 0), *_give(_PRETEND)] if index == 2 else []
        blocks.append((name, [*of_descriptor, *now]))
    # Another way to see which pages are in memory.
    blocks.append(("preadv2", _if_any(5, _RWF_NOWAIT, _refuse(errno.EOPNOTSUPP))))
    blocks.append(("socket", _sockets(options)))
    if options.needs_network:
        sending = (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3))
        refused = _refuse(errno.EOPNOTSUPP)
        blocks += [(name, _if_any(index, _MSG_FASTOPEN, refused)) for name, index in sending]
    if not options.has_private_names:
        blocks.append(("socketpair", _local()))
        blocks += _landlock_blocks(options)
    return blocks


def _landlock_blocks(options: FilterOptions) -> list[tuple[str, list[Instruction]]]:
    blocks: list[tuple[str, list[Instruction]]] = []
    if options.is_same_user:
        blocks += [(name, _give(_PRETEND)) for name in _METADATA]
        blocks += [(name, _unless_zero(0)) for name in _FOREIGN]
    if not options.has_truncate:
        blocks.append(("truncate", _give(_refuse(errno.EPERM))))
        blocks.append(("openat2", _give(_refuse(errno.ENOSYS))))
    if not options.has_scopes:
        blocks.append(("pidfd_send_signal", _give(_refuse(errno.ENOSYS))))
        action = NOTIFY if options.has_broker else _refuse(errno.EPERM)
        if options.has_broker or options.is_same_user:
            blocks += [(name, _give(action)) for name in _SIGNALS]
    for name, index in (("open", 1), ("openat", 2)):
        blocks.append((name, _opening(index, options)))
    if options.has_broker:
        names = ("connect", "link", "linkat", "unlink", "unlinkat")
        blocks += [(name, _give(NOTIFY)) for name in names]
    elif not options.needs_network:
        blocks.append(("connect", _give(_refuse(errno.ECONNREFUSED))))
    return blocks


def _opening(index: int, options: FilterOptions) -> list[Instruction]:
    """Rules for open flags: truncation that old Landlock misses, names the broker redirects."""
    block: list[Instruction] = [_argument(index)]
    if not options.has_truncate:
        block += [
            (_AND, 0, 0, os.O_ACCMODE | os.O_TRUNC),
            (_JEQ, 0, 1, os.O_RDONLY | os.O_TRUNC),
            (_RETURN, 0, 0, _refuse(errno.EPERM)),
            _argument(index),
        ]
    if options.has_broker:
        # As libraries open shared memory and semaphores; not each file that is made.
        block += [(_JSET, 0, 1, os.O_EXCL | os.O_NOFOLLOW), (_RETURN, 0, 0, NOTIFY)]
    return [*block, (_RETURN, 0, 0, ALLOW)]


def _sockets(options: FilterOptions) -> list[Instruction]:
    local = _local() if not options.has_private_names else _give(ALLOW)
    has_own_names = options.has_private_names and options.has_scopes
    if options.needs_network and not (has_own_names or options.has_broker):
        # Connections are open then, and no check where to.
        local = _give(_refuse(errno.EPERM))
    block: list[Instruction] = [_argument(0), (_JEQ, 0, len(local), _UNIX), *local]
    if options.needs_network:
        # Route lookups (protocol 0) are the only netlink a resolver needs.
        netlink = _if_equal(2, (0,), ALLOW, otherwise=_refuse(errno.EPERM))
        for family, inner in (
            (_INET, _internet()),
            (_INET6, _internet()),
            (_NETLINK, netlink),
        ):
            block += [(_JEQ, 0, len(inner), family), *inner]
    return [*block, *_give(_refuse(errno.EPERM))]


def _internet() -> list[Instruction]:
    """UDP, and TCP by its own name: as MPTCP it would pass a Landlock that rules over TCP ports."""
    udp = [(_JEQ, 0, 1, _DGRAM), (_RETURN, 0, 0, ALLOW)]
    tcp = _if_equal(2, (0, _TCP), ALLOW, otherwise=_refuse(errno.EPERM))
    kind = [_argument(1), (_AND, 0, 0, 0xF)]
    return [*kind, *udp, (_JEQ, 0, len(tcp), _STREAM), *tcp, *_give(_refuse(errno.EPERM))]


def _local() -> list[Instruction]:
    """Local sockets with connections only: a datagram could be sent to any path."""
    return _if_kind((_STREAM, _SEQPACKET))


def _if_kind(kinds: tuple[int, ...]) -> list[Instruction]:
    block: list[Instruction] = [_argument(1), (_AND, 0, 0, 0xF)]
    for kind in kinds:
        block += [(_JEQ, 0, 1, kind), (_RETURN, 0, 0, ALLOW)]
    return [*block, *_give(_refuse(errno.EPERM))]


def _if_any(index: int, bits: int, action: int) -> list[Instruction]:
    return [_argument(index), (_JSET, 0, 1, bits), *_give(action), *_give(ALLOW)]


def _if_equal(
    index: int, values: tuple[int, ...], action: int, *, otherwise: int = ALLOW
) -> list[Instruction]:
    block: list[Instruction] = [_argument(index)]
    for value in values:
        block += [(_JEQ, 0, 1, value), (_RETURN, 0, 0, action)]
    return [*block, *_give(otherwise)]


def _unless_zero(index: int) -> list[Instruction]:
    """Refuse a call that names another process."""
    return _if_equal(index, (0,), ALLOW, otherwise=_refuse(errno.EPERM))
