"""The choice of a backend, and what `doctor` says about it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from autoresearch.errors import PrerequisiteError
from autoresearch.sandbox import bubblewrap
from autoresearch.sandbox.policy import GUARANTEES, NoSandbox, Sandbox
from autoresearch.sandbox.select import BACKENDS, Probe, probe


@dataclass(frozen=True)
class BackendReport:
    """One backend on this machine, for `doctor`."""

    name: str
    is_working: bool
    is_chosen: bool
    guarantees: Mapping[str, bool]
    """Key of `GUARANTEES` -> given here; empty when it does not work."""
    detail: str
    """How it runs, or what is wrong, in one sentence."""
    hint: str = ""
    """The command that would fix it; empty when nothing is to be done."""
    probe_milliseconds: float | None = None


def choose(backend: str = "auto", *, is_unsafe_allowed: bool = False) -> Sandbox:
    """Return the strongest backend that works here.

    Args:
        backend: `auto`, or the one to insist on.
        is_unsafe_allowed: Rather run without one than not at all; `none` is taken at its word.

    Raises:
        PrerequisiteError: none works (or not the one named) and `is_unsafe_allowed` is False.
    """
    names = list(BACKENDS) if backend == "auto" else [backend] if backend in BACKENDS else []
    tried = []
    for name in names:
        found = probe(name)
        if found.sandbox is not None:
            return found.sandbox
        tried.append(found)
    if is_unsafe_allowed:
        return NoSandbox()
    if backend == "none":
        raise PrerequisiteError(
            '`sandbox.backend = "none"` runs unread code with your rights',
            hint="pass `--unsafe-no-sandbox` to say that you know",
            kind="sandbox_missing",
        )
    what = "no sandbox works" if backend == "auto" else f"sandbox `{backend}` does not work"
    fixes = [_hint(found) for found in tried]
    fix = next((text for text in fixes if text), "see `autoresearch doctor`")
    raise PrerequisiteError(
        f"{what} on this machine",
        hint=f"{fix}, or pass `--unsafe-no-sandbox` knowingly",
        kind="sandbox_missing",
    )


def report() -> list[BackendReport]:
    """Return every backend with what it guarantees here, and the command that would fix it."""
    probes = {name: probe(name) for name in BACKENDS}
    chosen = next((name for name, found in probes.items() if found.sandbox is not None), "none")
    reports = []
    for name, found in probes.items():
        is_working = found.sandbox is not None
        reports.append(
            BackendReport(
                name=name,
                is_working=is_working,
                is_chosen=name == chosen,
                guarantees=dict(found.sandbox.guarantees) if found.sandbox else {},
                detail=_describe(found),
                hint=""
                if is_working or (chosen != "none" and name != "bubblewrap")
                else _hint(found),
                probe_milliseconds=round(found.milliseconds, 1) if is_working else None,
            )
        )
    reports.append(
        BackendReport(
            name="none",
            is_working=True,
            is_chosen=chosen == "none",
            guarantees=dict.fromkeys(GUARANTEES, False),
            detail="the child has your rights; needs `--unsafe-no-sandbox`",
        )
    )
    return reports


def _describe(found: Probe) -> str:
    sandbox = found.sandbox
    if sandbox is None:
        return found.problem.splitlines()[-1] if found.problem else "does not work"
    parts = []
    if getattr(sandbox, "abi", 0):
        parts.append(f"ABI {sandbox.abi}")  # type: ignore[attr-defined]
    if getattr(sandbox, "changes_user", False):
        parts.append("under a throw-away uid")
    else:
        parts.append("under your uid")
    if not getattr(sandbox, "has_broker", True):
        parts.append("without broker: worker processes cannot share tensors")
    return "works, " + ", ".join(parts)


def _hint(found: Probe) -> str:
    """Return the one command that would make a backend work; empty if there is none."""
    if found.backend != "bubblewrap" or not sys.platform.startswith("linux"):
        return ""
    if bubblewrap.find() is None:
        return "`sudo apt-get install bubblewrap` (or your system's package of that name)"
    problem = found.problem
    if "uid map" in problem or "RTM_NEWADDR" in problem or "loopback" in problem:
        return "`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
    if "namespace" in problem or "Operation not permitted" in problem:
        return "start the container with `--security-opt seccomp=unconfined --cap-add SYS_ADMIN`"
    return ""
