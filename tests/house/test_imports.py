"""The house keeps its shape: arrows point down, and light verbs stay light."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import autoresearch

PACKAGE = Path(autoresearch.__file__).parent
# From the ground up: a room imports only rooms of lower floors.
FLOORS = (
    {"errors", "types"},
    {"events", "paths"},
    {"util"},
    {"config", "sandbox", "task"},
    {"decision", "machine", "proposer", "rundir"},
    {"record", "trial"},
    {"tasks"},
    {"bootstrap", "ui"},
    {"report", "session"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# The front door for notebooks, `autoresearch.read_session`, imports what it opens; everybody may ask for the version.
FRONT_DOOR = "__init__"
MOST_MODULES = 16
HEAVY = ("torch", "litellm", "pyarrow", "tiktoken", "optuna", "matplotlib", "jinja2", "git")


def imports_of(path: Path) -> set[str]:
    """Return the rooms of the package that a module imports, wherever the import stands."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "autoresearch":
                names = [f"autoresearch.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "autoresearch":
                rooms.add(parts[1] if len(parts) > 1 else "__init__")
    return {room if room in FLOOR_OF else FRONT_DOOR for room in rooms}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_arrows_point_down(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room in {"_templates", FRONT_DOOR}:
        pytest.skip("not a room")
    for other in imports_of(path) - {room, FRONT_DOOR}:
        assert FLOOR_OF[other] < FLOOR_OF[room], f"{path} in `{room}` imports `{other}`"


def test_no_folder_is_crowded() -> None:
    folders = Counter(path.parent for path in PACKAGE.rglob("*.py"))
    assert not {str(f): n for f, n in folders.items() if n > MOST_MODULES}


def modules_of(path: Path, known: set[str]) -> set[str]:
    """Return the modules of the package that a module imports when it runs, inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_typed = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for part in ast.walk(statement)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in only_typed:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names.add(full if full in known else node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names & known


def test_no_module_imports_itself_by_way_of_others() -> None:
    paths = {
        ".".join(("autoresearch", *p.relative_to(PACKAGE).with_suffix("").parts)): p
        for p in PACKAGE.rglob("*.py")
    }
    paths = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    arrows = {name: modules_of(path, set(paths)) - {name} for name, path in paths.items()}
    while arrows:
        ends = {name for name, targets in arrows.items() if not targets & arrows.keys()}
        assert ends, f"a circle among {sorted(arrows)}"
        arrows = {name: targets for name, targets in arrows.items() if name not in ends}


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "trial" / "child").glob("*.py")), ids=lambda p: p.name
)
def test_what_runs_in_the_sandbox_imports_nothing_of_the_lab(path: Path) -> None:
    allowed = {"trial", "errors", "paths", FRONT_DOOR}
    assert imports_of(path) <= allowed


def test_what_runs_beside_a_candidate_imports_nothing_of_the_lab() -> None:
    assert imports_of(PACKAGE / "task.py") <= {"util"}
    assert imports_of(PACKAGE / "tasks" / "program" / "worker.py") <= {"task", "util"}
    assert imports_of(PACKAGE / "util" / "plain.py") == set()


def test_the_protocol_imports_nothing() -> None:
    assert imports_of(PACKAGE / "trial" / "channel.py") <= {"trial", FRONT_DOOR}


def modules_after(*arguments: str, cwd: Path | None = None) -> set[str]:
    """Return the modules loaded after one command line ran in a fresh interpreter."""
    code = (
        "import sys; from autoresearch.cli import main; "
        f"code = main({list(arguments)!r}); "
        "print('\\n@@', code, *sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rsplit("@@", 1)[1].split())


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("--version",)])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    loaded = modules_after(*arguments)
    assert not loaded & {*HEAVY, "numpy"}


def test_python_is_started_by_one_helper_only() -> None:
    """Outside a sandbox Python never looks for modules in the current folder: `paths.python_command` sees to it.

    The sandbox asks where the interpreter is, to show it, and starts its launcher with `-I`.
    """
    allowed = {"paths.py", "sandbox/command.py", "sandbox/machine_paths.py"}
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in ("executable", "_base_executable"))
        or (isinstance(node, ast.alias) and node.name == "executable")
    }
    assert users == allowed
