"""The project's checks: `nox -l` lists them, `nox -s tests` runs the test suite.

Each session builds its own environment. AUTORESEARCH_TORCH names the torch to install, for example
`torch==2.13.0` or a CPU build; by default whatever satisfies pyproject.toml.
"""

import os
import tempfile
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "build"]
nox.options.default_venv_backend = "venv"

TORCH = os.environ.get("AUTORESEARCH_TORCH", "torch>=2.9")


def install(session: nox.Session, *what: str) -> None:
    """Install torch first, so that nothing else chooses its build, then `what`."""
    session.install(TORCH)
    session.install(*what)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite in random order; arguments go to pytest."""
    install(session, "-e", ".[dev]")
    session.run("pytest", "-n", "2", "-m", "not slow and not gpu", *session.posargs)


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
    session.install("ruff>=0.9")
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
    session.install("build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--wheel", "--outdir", folder, ".")
        wheel = next(Path(folder).glob("*.whl"))
        install(session, str(wheel))
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
