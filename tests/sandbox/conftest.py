"""Runs small programs under each backend that this machine has."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from autoresearch.sandbox import Policy, Sandbox
from autoresearch.sandbox.launcher.folders import wipe
from autoresearch.sandbox.select import BACKENDS, probe


@pytest.fixture(params=[name for name in BACKENDS if name != "seatbelt"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    name, _, variant = request.param.partition("/")
    found = probe(name)
    if found.sandbox is None:
        pytest.skip(f"{name} does not work here: {found.problem}")
    return replace(found.sandbox, **VARIANTS[variant])  # type: ignore[type-var]


VARIANTS: dict[str, dict[str, object]] = {
    "": {},
    "same-user": {"changes_user": False},
    "ubuntu-24.04": {"changes_user": False, "abi": 4},
    "debian-12": {"changes_user": False, "abi": 2},
    "ubuntu-22.04": {"abi": 1},
    "container": {"has_broker": False},
}
"""How the backends run elsewhere, as far as this machine can play it."""

PATCHED = """
import sys; sys.path.append(sys.argv[1])
from launcher import broker, groups, keep
{}
from launcher.main import main
main(sys.argv[2])
"""


@dataclass
class Child:
    """One finished program."""

    code: int
    out: str
    err: str


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder others can enter, as a lab's scratch folder is.

    Its path is short: below it lie addresses of local sockets, which may have 107 bytes.
    """
    folder = Path(tempfile.mkdtemp(prefix="ar-", dir="/tmp")).resolve()
    folder.chmod(0o755)
    yield folder
    wipe(str(folder))
    folder.rmdir()


@pytest.fixture
def run(sandbox: Sandbox, place: Path) -> Callable[..., Child]:
    """`run(code, *arguments, policy...)` runs Python code in a fresh home under the backend.

    `patch` is code that the keeper runs first, with the launcher's modules at hand.
    """

    def start(
        code: str, *arguments: str, timeout: float = 60, patch: str = "", **changes: object
    ) -> Child:
        home = place / f"home{len(list(place.glob('home*')))}"
        home.mkdir()
        snapshot = place / "snapshot"
        snapshot.mkdir(exist_ok=True)
        policy = Policy("train", snapshot, home, environment={"PATH": os.environ["PATH"]})
        policy = replace(policy, **changes)  # type: ignore[arg-type]
        command = sandbox.wrap([sys.executable, "-c", code, *arguments], policy)
        argv = list(command.argv)
        if patch:
            argv[argv.index("-c") + 1] = PATCHED.format(patch)
        done = subprocess.run(
            argv,
            env=dict(command.env),
            cwd=command.cwd,
            pass_fds=command.pass_fds,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return Child(done.returncode, done.stdout, done.stderr)

    return start
