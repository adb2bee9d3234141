"""Makes the model.py and sample.py of an export: programs that need no autoresearch."""

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from autoresearch.paths import templates_directory

_Import = ast.Import | ast.ImportFrom
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_MODULES = ("script", "compat.lab", "compat.clock", "compat.building", "compat")
"""Of `trial/child`: what train.py, prepare.py and kernels.py import, and loader.py uses, is cut out of them."""
_SHIM = {
    "BuiltError", "Tokenizer", "__getattr__", "builder", "flash_attn_func", "get_device", "get_token_bytes",
    "is_out_of_memory", "lookup", "run_to_first_batch", "variables_seen",
}  # fmt: skip
_INSIDE = re.compile(
    r"^from autoresearch\.trial\.child\.(script|compat)\b[\w.]* import (\([^)]*\)|.*)\n",
    re.MULTILINE,
)
"""Imports of those modules from each other."""


@dataclass(frozen=True)
class _Part:
    """Whole lines of a program, with the names they define and use."""

    text: str
    defined: set[str]
    used: set[str]
    is_needed: bool = False
    """It is run for its effect."""
    lacks: str = ""
    """What of autoresearch it needs that cannot be had elsewhere."""


def model_source(text: str) -> str:
    """Return a model.py made of `build_model` of a train.py and of what that needs.

    Raises:
        ValueError: as `cut`.
    """
    header = '"""The model of train.py, cut out of it. Written by an agent: read it before you run it."""'
    return f"{header}\n\n{cut(text, {'build_model'})}"


def loader_source(file: str) -> str:
    """Return a model.py that runs the program `file` next to it as far as its first batch."""
    header, mark, body = _template("loader.py").replace("train.py", file).partition('"""\n\n')
    sources = []
    for module in _MODULES:
        spec = find_spec(f"autoresearch.trial.child.{module}")
        assert spec is not None
        assert spec.origin is not None
        sources.append(_INSIDE.sub("", Path(spec.origin).read_text(encoding="utf-8")))
    return "\n\n".join([header + mark, cut("\n".join(sources), _SHIM), body])


def sample_source(model: str) -> str:
    """Return a sample.py that imports the module `model`."""
    return _template("sample.py").replace("from model import", f"from {model} import")


def cut(text: str, names: Collection[str]) -> str:
    """Return the source of top-level names and of all they use, with its comments, in its order.

    `attend` of autoresearch becomes one that needs torch alone. A string that is a name counts as a use of it.

    Raises:
        ValueError: the text is not Python, lacks a name, or needs something else of autoresearch.
    """
    try:
        parts = list(_parts(text))
    except (SyntaxError, ValueError, RecursionError) as exc:
        raise ValueError(f"it is not Python: {exc}") from exc
    if lacking := set(names).difference(*(part.defined for part in parts)):
        raise ValueError(f"it does not define {', '.join(sorted(lacking))}")
    taken: list[_Part] = []
    found = [part for part in parts if part.is_needed or part.defined & set(names)]
    while found:
        taken += found
        used = set().union(*(part.used for part in found))
        found = [part for part in parts if part.defined & used and part not in taken]
    if lacks := [part.lacks for part in taken if part.lacks]:
        raise ValueError(f"it needs {', '.join(lacks)}")
    return "\n".join(part.text for part in parts if part in taken).strip("\n") + "\n"


def _parts(text: str) -> Iterator[_Part]:
    """Yield the statements of a program; a comment belongs to the statement after it."""
    groups: list[list[ast.stmt]] = []
    for node in ast.parse(text).body:
        if groups and node.lineno <= _end(groups[-1]):  # `a = 1; b = 2`
            groups[-1].append(node)
        else:
            groups.append([node])
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    start = 0
    for nodes in groups:
        end = _end(nodes)
        yield from _read(nodes, "\n".join(lines[start:end]))
        start = end


def _end(nodes: list[ast.stmt]) -> int:
    return nodes[-1].end_lineno or nodes[-1].lineno


def _read(nodes: list[ast.stmt], text: str) -> Iterator[_Part]:
    first = nodes[0]
    if len(nodes) == 1 and isinstance(first, ast.ImportFrom) and _of_lab(first):
        for alias in first.names:
            name = alias.asname or alias.name
            if alias.name == "attend":
                attend = _template("attend.py").replace("def attend(", f"def {name}(").rstrip()
                yield _Part(f"\n\n{attend}\n", {name}, set())
            else:
                yield _Part("", {name}, set(), lacks=f"`{alias.name}` of autoresearch")
        return
    inside = [inner for node in nodes for inner in ast.walk(node)]
    yield _Part(
        text,
        defined={name for node in nodes for name in _defined(node)},
        used={n.id for n in inside if isinstance(n, ast.Name)}
        | {n.value for n in inside if isinstance(n, ast.Constant) and isinstance(n.value, str)},
        is_needed=any(_has_effect(node) for node in nodes),
        lacks="autoresearch" if any(isinstance(n, _Import) and _of_lab(n) for n in inside) else "",
    )


def _of_lab(node: _Import) -> bool:
    modules = (
        [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
    )
    return any(module.split(".")[0] == "autoresearch" for module in modules)


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, _Definition):
        return {node.name}
    inside = list(ast.walk(node))
    aliases = [alias for n in inside if isinstance(n, _Import) for alias in n.names]
    return (
        {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        | {n.name for n in inside if isinstance(n, _Definition)}
        | {alias.asname or alias.name.split(".")[0] for alias in aliases}
    )


def _has_effect(node: ast.stmt) -> bool:
    """Whether a statement does more than define names, before train.py is run by itself."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return False
        case ast.Import() | ast.ImportFrom():
            is_future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
            return is_future or node.names[0].name == "*"
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return not all(isinstance(t, ast.Name | ast.Tuple | ast.List) for t in targets)
        case ast.Expr(value=ast.Constant()):
            return False
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return False
    return True


def _template(name: str) -> str:
    return (templates_directory() / "export" / name).read_text(encoding="utf-8")
