"""Chooses the sandbox backend: which ones work on this machine, found by running them."""

import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoresearch.errors import PrerequisiteError
from autoresearch.sandbox import bubblewrap, landlock, seatbelt
from autoresearch.sandbox import command as keeper
from autoresearch.sandbox.policy import GUARANTEES, NoSandbox, Policy, Profile, Sandbox

BACKENDS: dict[str, Callable[[], Sequence[Sandbox]]] = {
    "bubblewrap": bubblewrap.variants,
    "landlock": landlock.variants,
    "seatbelt": seatbelt.variants,
}
"""Strongest first."""

_CODE = """
import _socket, os, sys
outside, parent = sys.argv[1], int(sys.argv[2])
def refused(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return True
    return False
if not refused(os.open, outside + "/secret", os.O_RDONLY): print("reads outside its folder")
elif not refused(os.open, outside + "/new", os.O_CREAT | os.O_WRONLY): print("writes outside its folder")
elif not refused(_socket.socket, _socket.AF_INET, _socket.SOCK_STREAM): print("opens network sockets")
elif not refused(os.kill, parent, 0): print("signals processes outside")
else:
    seal = int(sys.argv[-1])
    if seal >= 0:
        # Before /dev/shm is tried: what Landlock cannot judge is answered by who asks for the seal, from here on.
        sys.path.append(sys.argv[3])
        from launcher.seal import enter_seal
        enter_seal()
    name = f"/dev/shm/autoresearch-{os.getpid()}"
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW
    if sys.platform == "linux" and "shm" in sys.argv:
        os.close(os.open(name, flags, 0o600))
        os.unlink(name)
    os.close(os.open("written", os.O_CREAT | os.O_WRONLY))
    said = "ok"
    if seal >= 0:
        os.write(seal, b"seal")
        said = os.read(seal, 256).decode()
        if not refused(os.stat, "/"): said = "looks up names once it is sealed"
    print(said)
"""
_CODE_LOOSE = _CODE.replace("elif not refused(os.kill, parent, 0)", "elif False")


@dataclass(frozen=True)
class Probe:
    """What one try of one backend showed."""

    backend: str
    sandbox: Sandbox | None
    """The variant that works, None if none does."""
    problem: str = ""
    """The last lines of what went wrong with the strongest variant."""


@functools.cache
def probe(backend: str) -> Probe:
    """Return the strongest variant of a backend that works here; tried once a process."""
    problem = ""
    for sandbox in BACKENDS[backend]():
        found = _try(sandbox)
        if found == "ok":
            return Probe(backend, sandbox, problem)
        problem = problem or found
    return Probe(backend, None, problem or _absence(backend))


def _try(sandbox: Sandbox) -> str:
    folder = Path(tempfile.mkdtemp(prefix="autoresearch-probe-"))
    try:
        home, outside = folder / "home", folder / "outside"
        home.mkdir()
        outside.mkdir()
        folder.chmod(0o755)
        (outside / "secret").write_text("x")
        outside.chmod(0o777)
        (outside / "secret").chmod(0o666)
        is_loose = getattr(sandbox, "abi", 6) < 6 and not getattr(sandbox, "has_broker", True)
        code = _CODE_LOOSE if is_loose else _CODE
        argv = [keeper.interpreter(), "-I", "-S", "-c", code, str(outside), str(os.getpid())]
        argv += [str(keeper.LAUNCHER.parent)]
        argv += ["shm"] if getattr(sandbox, "has_broker", True) else []
        result = run_sealable(sandbox, "train", home, argv, timeout=20)
        if result.stdout.strip() == "ok" and result.returncode == 0:
            return "ok"
        return (result.stdout + result.stderr).strip()[-500:] or f"exit {result.returncode}"
    except subprocess.TimeoutExpired as error:
        return f"did not answer in {error.timeout:g} s"
    except OSError as error:
        return str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_sealable(
    sandbox: Sandbox,
    profile: Profile,
    home: Path,
    argv: Sequence[str],
    *,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a sandbox and capture its output.

    The last argument is added: the descriptor of the socket on which the command asks for its seal, or -1.

    Raises:
        subprocess.TimeoutExpired: it takes longer than `timeout` seconds.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        policy = Policy(profile, home, home)
        if sandbox.guarantees["notes"]:
            policy = replace(policy, inherit=(ours.fileno(),), seal=theirs.fileno())
        number = ours.fileno() if policy.inherit else -1
        command = sandbox.wrap([*argv, str(number)], policy)
        return subprocess.run(
            command.argv,
            env=dict(command.env),
            cwd=command.cwd,
            pass_fds=command.pass_fds,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
            text=True,
            errors="replace",
        )


def _absence(backend: str) -> str:
    if backend == "bubblewrap":
        if not sys.platform.startswith("linux"):
            return "only on Linux"
        return "not installed" if bubblewrap.find() is None else "does not start"
    if backend == "landlock":
        if not sys.platform.startswith("linux"):
            return "only on Linux"
        return "switched off in the kernel" if landlock.kernel_abi() == 0 else "does not start"
    return "only on macOS" if sys.platform != "darwin" else "not found"


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
    if not sandbox.guarantees["notes"]:
        parts.append("without seal: a claim can leave notes for the audit")
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
