"""The house keeps its shape: arrows point down, and light verbs stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import autoresearch

PACKAGE = Path(autoresearch.__file__).parent
LEAVES = {
    "arrow", "config", "files", "killpoints", "meanings", "paths", "hardware", "events", "errors", "types", "__init__",
}  # fmt: skip
FLOORS = {
    "cli": 5,
    "__main__": 6,
    "commands": 4,
    "ui": 3,
    "report": 3,
    "lab": 3,
    "presets": 2,
    "proposer": 2,
    "trial": 2,
    "data": 2,
    **dict.fromkeys(LEAVES, 1),
}
# Rooms of one floor that may look at each other, and the one upward look that is wanted:
# `autoresearch.read_session` is the front door for notebooks.
NEIGHBOURS = {
    ("ui", "lab"),
    ("report", "lab"),
    ("report", "ui"),
    ("ui", "report"),
    ("trial", "data"),
    ("proposer", "trial"),
    ("__init__", "lab"),
}
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
    return {r if r in FLOORS else "__init__" for r in rooms}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_arrows_point_down(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "_templates":
        pytest.skip("templates are no rooms")
    for other in imports_of(path) - {room}:
        are_leaves = room in LEAVES and other in LEAVES
        allowed = FLOORS[other] < FLOORS[room] or are_leaves or (room, other) in NEIGHBOURS
        assert allowed, f"{path} in `{room}` imports `{other}`"


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


def test_the_client_imports_nothing_of_the_lab() -> None:
    assert imports_of(PACKAGE / "trial" / "client.py") <= {"trial", "errors", "__init__"}
    assert imports_of(PACKAGE / "trial" / "channel.py") <= {"trial", "__init__"}


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
