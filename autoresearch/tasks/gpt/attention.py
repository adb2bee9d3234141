"""The attention kernels of this machine: measured once per setup, kept in the cache, the same for every process.

`choose_attention` is what the lab puts into `Setup.attention` and into the environment of trials and judges
(AUTORESEARCH_ATTENTION). On a CPU and on MPS nothing is measured: there is one sensible choice.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import select
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoresearch.errors import AutoresearchError, WorkError
from autoresearch.machine.environment import outside_environment
from autoresearch.machine.hardware import Hardware, package_version
from autoresearch.paths import cache_directory, python_command
from autoresearch.util.files import write_json

VARIABLE = "AUTORESEARCH_ATTENTION"
DEFAULT = "sdpa+folded"
KERNEL_SECONDS = 180.0
"""A measuring process that says nothing for so long hangs in the kernel it tries."""
_MAX_STARTS = 8
_MODULE = ("-m", "autoresearch.trial.child.attention")
_PACKAGES = ("flash-attn-3", "flash-attn-4", "nvidia-cutlass-dsl")
"""What the kernels `fa3` and `fa4` come from: installed, changed or removed, another choice may be the right one."""


@dataclass(frozen=True)
class Attention:
    """A choice of kernels and what it rests on."""

    choice: str = DEFAULT
    source: str = "default"
    """`default`, `measured`, `cached` (measured before) or `environment` (set by the user)."""
    full: dict[str, float] = field(default_factory=dict)
    """Kernel -> milliseconds forward and backward, without a window."""
    windowed: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Kernel -> why it is no candidate here."""


def choose_attention(
    hardware: Hardware,
    *,
    max_seq_len: int = 2048,
    is_fresh: bool = False,
    shape: dict[str, int] | None = None,
) -> Attention:
    """Return the kernels to use on this machine.

    Args:
        hardware: Where trials run.
        max_seq_len: Context measured at; windows are an eighth of it.
        is_fresh: Measure again although it was measured before; what was stored first stays stored.
        shape: Fields of `trial.attention.Shape` that differ from its defaults; for tests.

    Raises:
        AutoresearchError: torch cannot be started; trials would fail too.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Attention(chosen, "environment")
    if hardware.kind not in ("cuda", "rocm") and shape is None:
        return Attention()
    values = _values(hardware, max_seq_len) | (shape or {})
    path = _path(hardware, values)
    stored = None if is_fresh else _load(path)
    if stored is not None:
        return stored
    report = _measure(values)
    found = Attention(
        report["choice"], "measured", report["full"], report["windowed"], report["refused"]
    )
    if not path.exists():
        with contextlib.suppress(WorkError):
            write_json(path, dataclasses.asdict(found))
    return found


def stored_attention(hardware: Hardware, *, max_seq_len: int = 2048) -> Attention | None:
    """Return what was measured before on this machine, None if nothing was."""
    return _load(_path(hardware, _values(hardware, max_seq_len)))


def _values(hardware: Hardware, max_seq_len: int) -> dict[str, Any]:
    """Fields of `trial.attention.Shape`."""
    return {
        "device": "cuda" if hardware.kind in ("cuda", "rocm") else "cpu",
        "context": max_seq_len,
        "window": max(16, max_seq_len // 8),
        "rows": max(1, 32_768 // max_seq_len),
    }


def _path(hardware: Hardware, values: dict[str, Any]) -> Path:
    packages = [package_version(name) for name in _PACKAGES]
    key = [hardware.name, hardware.torch, hardware.driver, packages, values]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return cache_directory() / "attention" / f"{digest}.json"


def _load(path: Path) -> Attention | None:
    try:
        return Attention(**{**json.loads(path.read_text(encoding="utf-8")), "source": "cached"})
    except (OSError, ValueError, TypeError):
        return None


def _measure(values: dict[str, Any]) -> dict[str, Any]:
    """Measure in a separate process, and in another without it after each kernel that ended or hung one.

    Raises:
        AutoresearchError: it ended before a kernel was tried.
    """
    report: dict[str, Any] = {}
    for _ in range(_MAX_STARTS):
        said, why = _watch(values, report)
        if not said:
            raise AutoresearchError(
                f"attention kernels cannot be measured: {why}",
                hint=f"`autoresearch doctor` shows what works; `{VARIABLE}={DEFAULT}` skips measuring",
                kind="hardware",
            )
        report = said
        if not report["trying"]:
            break
        report["refused"].setdefault(report["trying"], why)
    return report


def _watch(values: dict[str, Any], known: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the last report of one measuring process, and why it ended."""
    argv = [*_MODULE, json.dumps(values), json.dumps(known)]
    last, buffer, why = b"", b"", ""
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                python_command(*argv),
                env=outside_environment(),
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        except OSError as exc:
            return {}, str(exc)
        with process:
            assert process.stdout is not None
            while True:
                if not select.select([process.stdout], [], [], KERNEL_SECONDS)[0]:
                    why = f"it hung for {KERNEL_SECONDS:g} s"
                    break
                data = os.read(process.stdout.fileno(), 65_536)
                if not data:
                    break
                *lines, buffer = (buffer + data).split(b"\n")
                last = lines[-1] if lines else last
            process.kill()
        errors.seek(0)
        tail = errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
    if not why and process.returncode < 0:
        why = f"it ended the process with signal {-process.returncode}"
    report = {}
    with contextlib.suppress(ValueError):
        report = dict(json.loads(last or b"{}"))
    return report, (why or (tail[0][:200] if tail else "the process ended"))
