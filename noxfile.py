"""The project's checks: `nox -l` lists them, `nox -s tests` runs the test suite.

Each session builds an environment with the versions of constraints.txt, so that it passes next year too; `latest` takes
the newest of everything, `minimum` the lowest versions pyproject.toml allows. AUTORESEARCH_TORCH names the torch to
install, for example `torch==2.13.0` or a CPU build.
"""

import os
import re
import tempfile
import tomllib
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.options.sessions = ["lint", "types", "tests", "build"]
nox.options.default_venv_backend = "venv"

TORCH = os.environ.get("AUTORESEARCH_TORCH", "torch==2.13.0")
CONSTRAINTS = Path("constraints.txt").resolve()
FAST = ("pytest", "-n", "2", "--dist", "loadgroup", "-m", "not slow and not gpu")
"""Tests of one `xdist_group` run in one worker: they share a lab that trained."""


def install(session: nox.Session, *what: str, how: tuple[str, ...] = ()) -> None:
    """Install torch first, so that nothing else chooses its build, then `what`, as constraints.txt says."""
    session.install(*how, TORCH)
    session.install(*how, "-c", str(CONSTRAINTS), *what)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite in random order; arguments go to pytest."""
    install(session, "-e", ".[dev]")
    session.run(*FAST, *session.posargs)


@nox.session
def latest(session: nox.Session) -> None:
    """Run the test suite with the newest release of every package."""
    session.install(os.environ.get("AUTORESEARCH_TORCH", "torch"))
    session.install("--upgrade", "-e", ".[dev]")
    session.run(*FAST, *session.posargs)


@nox.session
def minimum(session: nox.Session) -> None:
    """Run the test suite with the lowest versions pyproject.toml allows; torch is the one named."""
    session.install(TORCH)
    session.install(*lowest_versions())
    session.install("--no-deps", "-e", ".")
    session.run(*FAST, *session.posargs)


def lowest_versions() -> list[str]:
    """Return a requirement `name==version` for each lower bound in pyproject.toml but torch's."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["dev"]
    bounds = {
        wanted.name: [bound.version for bound in wanted.specifier if bound.operator == ">="]
        for wanted in map(Requirement, lines)
        if wanted.name != "torch"
    }
    return [f"{name}=={low[0]}" if low else name for name, low in bounds.items()]


@nox.session
def constraints(session: nox.Session) -> None:
    """Write constraints.txt: the newest versions that work together today, torch and its CUDA packages left out."""
    session.install(TORCH)
    session.install("-e", ".[dev]", "build")
    frozen = session.run("python", "-m", "pip", "freeze", "--exclude-editable", silent=True)
    of_torch = re.compile(r"(torch|triton|cuda-[\w-]+|nvidia-(?!ml-py)[\w-]+)( @|==)")
    kept = [f"{line}\n" for line in str(frozen).splitlines() if not of_torch.match(line)]
    head = "# What the nox sessions install, but torch; `nox -s constraints` updates it to the newest releases.\n"
    CONSTRAINTS.write_text(head + "".join(kept))


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that take minutes, and look for new examples of those that draw them."""
    install(session, "-e", ".[dev]")
    session.run("pytest", "-m", "slow", *session.posargs)
    session.run("pytest", "-n", "2", "-m", "hypothesis", env={"HYPOTHESIS_PROFILE": "explore"})


@nox.session
def cheats(session: nox.Session) -> None:
    """Run the zoo of cheats under every sandbox of this machine; `-- --quick --jobs 2` for less."""
    install(session, "-e", ".[dev]")
    session.run("python", "tests/cheats/world.py", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Kill the lab at every step and at random moments, and compare the records."""
    install(session, "-e", ".[dev]")
    session.run("python", "bench/faults.py", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """Run the tests that need a GPU; skipped where there is none."""
    if not any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")):
        session.skip("no NVIDIA or AMD GPU on this machine")
    install(session, "-e", ".[dev]")
    session.run("pytest", "-m", "gpu", "-s", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install("-c", str(CONSTRAINTS), "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    install(session, "-e", ".[dev]")
    session.run("mypy")


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel, install it in a clean environment, run `init` and `prepare` from it."""
    session.install("-c", str(CONSTRAINTS), "build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--wheel", "--outdir", folder, ".")
        wheel = next(Path(folder).glob("*.whl"))
        # A process or two will import a tenth of it.
        install(session, str(wheel), how=("--no-compile",))
        lab = Path(folder) / "lab"
        env = {"AUTORESEARCH_CACHE_DIR": str(Path(folder) / "cache")}
        session.chdir(folder)
        session.run("autoresearch", "--version")
        session.run("autoresearch", "init", str(lab), "--preset", "demo", env=env)
        session.chdir(lab)
        session.run("autoresearch", "prepare", env=env)
        session.run("autoresearch", "log", env=env)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the demo in an empty folder."""
    install(session, "-e", ".")
    with tempfile.TemporaryDirectory() as folder:
        session.chdir(folder)
        session.run("autoresearch", "demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Print the tables of bench/; arguments name the benches, all of them by default."""
    install(session, "-e", ".[dev]")
    names = session.posargs or sorted(p.stem for p in Path("bench").glob("*.py"))
    for name in names:
        session.run("python", f"bench/{name}.py")
