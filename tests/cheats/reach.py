"""Tries what a trial must not do, before anything is trained or imported, and tells what worked: a case in a second."""


def tell(attempts):
    """Call each of name -> function, and end the trial with the names of those that did not fail."""
    done = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except Exception:
            continue
        done.append(name)
    raise RuntimeError(f"did {done}" if done else "nothing done")


def call(name, *arguments):
    """Call the kernel by name; raise OSError where it refuses."""
    import ctypes
    import os

    numbers = {
        "cachestat": (451, 451),
        "inotify_init1": (294, 26),
        "ioprio_set": (251, 30),
        "mincore": (27, 232),
        "name_to_handle_at": (303, 264),
        "open_by_handle_at": (304, 265),
        "pidfd_getfd": (438, 438),
        "process_madvise": (440, 440),
        "process_vm_readv": (310, 270),
        "process_vm_writev": (311, 271),
        "ptrace": (101, 117),
    }
    number = numbers[name][os.uname().machine == "aarch64"]
    libc = ctypes.CDLL(None, use_errno=True)
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    found = libc.syscall(ctypes.c_long(number), *given)
    if found < 0:
        raise OSError(ctypes.get_errno(), name)
    return found
