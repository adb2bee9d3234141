"""Writes what the kernel is asked by: core files, system requests, the state of processes.

expect: crash exception
detail: nothing done
"""

from pathlib import Path

from known import LAB
from reach import tell

tell(
    {
        "core files": lambda: Path("/proc/sys/kernel/core_pattern").write_text("|/bin/sh"),
        "requests": lambda: Path("/proc/sysrq-trigger").write_text("h"),
        "kept pages": lambda: Path("/proc/sys/vm/drop_caches").write_text("1"),
        "the lab's core file": lambda: Path(f"/proc/{LAB}/coredump_filter").write_text("0"),
        "the lab's pages": lambda: Path(f"/proc/{LAB}/clear_refs").write_text("1"),
        "a name": lambda: Path(f"/proc/{LAB}/comm").write_text("zoo"),
        "a processor": lambda: Path("/sys/devices/system/cpu/cpu1/online").write_text("1"),
    }
)
