"""The backend for macOS: a `sandbox-exec` profile. Written from documentation, UNVERIFIED on a Mac.

Nothing is allowed but what is named: reading the system, the interpreter and the snapshot, writing
the private home, the GPU's services for MPS. It gives no private process tree and no quota.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoresearch.sandbox import machine_paths
from autoresearch.sandbox.policy import GUARANTEES, Command, Policy, child_environment

_SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/System",
    "/Library/Apple",
    "/Library/Developer",
    "/Applications/Xcode.app",
    "/opt/homebrew",
    "/private/etc/passwd",
    "/private/etc/ssl",
    "/private/var/db/timezone",
    "/private/var/db/dyld",
    "/private/var/select",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
)
_MPS = """\
(allow iokit-open
  (iokit-user-client-class "AGXDeviceUserClient")
  (iokit-user-client-class "AGXCommandQueue")
  (iokit-user-client-class "IOSurfaceRootUserClient"))
(allow mach-lookup
  (global-name "com.apple.MTLCompilerService")
  (xpc-service-name "com.apple.MTLCompilerService")
  (global-name "com.apple.cvmsServ"))
"""


@dataclass(frozen=True)
class Seatbelt:
    """macOS' own sandbox by a profile; see the module."""

    program: str
    name: str = field(default="seatbelt", init=False)

    @property
    def guarantees(self) -> Mapping[str, bool]:
        """All but a private process tree, a model without notes and a quota."""
        lacking = dict.fromkeys(("processes", "notes", "quota"), False)
        return {**dict.fromkeys(GUARANTEES, True), **lacking}

    def wrap(self, argv: Sequence[str], policy: Policy) -> Command:
        """Return the command that runs `argv` under `policy`."""
        env = child_environment(policy)
        command = (self.program, "-p", profile(argv, policy), *argv)
        return Command(command, env, policy.inherit, str(policy.working_directory))


def profile(argv: Sequence[str], policy: Policy) -> str:
    """Return the profile in the language of `sandbox-exec`."""
    return "\n".join(_lines(argv, policy)) + "\n"


def _lines(argv: Sequence[str], policy: Policy) -> Iterator[str]:
    yield "(version 1)"
    yield "(deny default)"
    yield "(allow process-fork)"
    yield "(allow process-exec)"
    yield "(allow signal (target same-sandbox))"
    yield "(allow sysctl-read)"
    yield "(allow ipc-posix-sem)"
    yield "(allow ipc-posix-shm)"
    yield "(allow file-read-metadata)"
    readable = [Path(name) for name in _SYSTEM]
    readable += machine_paths.interpreter_paths()
    readable += machine_paths.program_paths(argv[0], policy.environment.get("PATH"))
    readable += [*policy.read_only, policy.working_directory]
    # Importing from a folder lists it; only its names show.
    yield f"(allow file-read-data (literal {_quote(machine_paths.package_folder().parent)}))"
    for path in dict.fromkeys(_real(readable)):
        yield f"(allow file-read* (subpath {_quote(path)}))"
    for name in ("/dev/null", "/dev/zero"):
        yield f"(allow file-write-data (literal {_quote(Path(name))}))"
    for path in _real([policy.home]):
        yield f"(allow file-read* file-write* (subpath {_quote(path)}))"
    if policy.needs_gpu:
        yield _MPS.rstrip()
    if policy.needs_network:
        yield "(allow network-outbound)"
        yield "(allow network-inbound (local ip))"
        yield "(allow system-socket)"
        yield '(allow mach-lookup (global-name "com.apple.SystemConfiguration.configd"))'
    else:
        for path in _real([policy.home]):
            yield f"(allow network* (local unix-socket (subpath {_quote(path)})))"
            yield f"(allow network* (remote unix-socket (subpath {_quote(path)})))"


def _real(paths: Sequence[Path]) -> list[Path]:
    """Return paths as the kernel sees them (/tmp is /private/tmp), and as they were named."""
    return [name for path in paths for name in (path, Path(os.path.realpath(path)))]


def _quote(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def variants() -> list[Seatbelt]:
    """Return the backend on macOS, else nothing."""
    program = shutil.which("sandbox-exec") if sys.platform == "darwin" else None
    return [Seatbelt(program)] if program else []
