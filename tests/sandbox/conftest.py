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
def start(sandbox: Sandbox, place: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """`start(code, *arguments, policy...)` starts Python code in a fresh home under the backend.

    `patch` is code that the keeper runs first, with the launcher's modules at hand.
    """

    def begin(
        code: str,
        *arguments: str,
        patch: str = "",
        stdout: int | None = None,
        stderr: int | None = None,
        text: bool = False,
        **changes: object,
    ) -> "subprocess.Popen[str]":
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
        return subprocess.Popen(
            argv,
            env=dict(command.env),
            cwd=command.cwd,
            pass_fds=command.pass_fds,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=text,
        )

    return begin


@pytest.fixture
def run(start: Callable[..., "subprocess.Popen[str]"]) -> Callable[..., Child]:
    """`run(code, *arguments, policy...)` runs Python code as `start` does, to its end."""

    def finish(code: str, *arguments: str, timeout: float = 60, **changes: object) -> Child:
        process = start(
            code, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **changes
        )
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return Child(process.returncode, out, err)

    return finish
