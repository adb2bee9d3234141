"""Numeric UPPER_CASE constants of a program: found in the syntax tree, evaluated, set in the source text.

Comments and formatting stay as they are: only the characters of a value are replaced. What a program states
about its constants (assertions, `multiple of 64` in a comment) becomes constraints on new values.

Trade-offs:
    Only module-level assignments of plain numbers (also `2**18`, `1 << 18`, `64 * 1024`, `-1.5`) and of tuples
    of them count; a value computed from another constant is derived, not searched. A constant that is used for nothing
    but what is printed is not searched either: a peak of FLOPs, say.
"""

import ast
import io
import operator
import re
import tokenize
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

Number = int | float

_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: lambda a, b: int(a) << int(b),
}
_COMPARE: dict[type[ast.cmpop], Callable[[Number, Number], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
CALLS: dict[str, Callable[..., Number]] = {
    "int": int,
    "float": float,
    "round": round,
    "abs": abs,
    "min": min,
    "max": max,
}
_MAX_MAGNITUDE = 1e30


class UnknownError(Exception):
    """The expression holds something that has no known number."""


def evaluate(node: ast.expr, values: Mapping[str, Number]) -> Number:
    """Compute an arithmetic or boolean expression over known names; nothing is executed.

    Raises:
        UnknownError: a name or a construct is not known, or the arithmetic fails.
    """
    try:
        result = _evaluate(node, values)
    except (ArithmeticError, ValueError, TypeError, KeyError, RecursionError) as exc:
        raise UnknownError from exc
    if isinstance(result, complex) or abs(result) > _MAX_MAGNITUDE:
        raise UnknownError
    return result


def _evaluate(node: ast.expr, values: Mapping[str, Number]) -> Number:
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Name(id=name):
            return values[name]
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=int() as index)):
            return values[f"{name}[{index}]"]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _evaluate(operand, values)
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _evaluate(left, values), _evaluate(right, values)
            if isinstance(op, ast.Pow | ast.LShift) and abs(b) > 100:
                raise UnknownError
            return _BINARY[type(op)](a, b)
        case ast.BoolOp(op=op, values=parts):
            results = [bool(_evaluate(part, values)) for part in parts]
            return all(results) if isinstance(op, ast.And) else any(results)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            numbers = [_evaluate(part, values) for part in (left, *comparators)]
            pairs = zip(ops, numbers, numbers[1:], strict=False)
            return all(_COMPARE[type(op)](a, b) for op, a, b in pairs)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in CALLS:
            return CALLS[name](*(_evaluate(arg, values) for arg in args))
    raise UnknownError


_UPPER = re.compile(r"[A-Z][A-Z0-9_]*\Z")


@dataclass(frozen=True)
class Constant:
    """One number a program may be tuned by."""

    name: str
    """`MATRIX_LR`, or `ADAM_BETAS[0]` for an element of a tuple."""
    value: Number
    start: int
    """Byte offset of the value in the UTF-8 source."""
    end: int
    literal: str
    """The value as written."""
    comment: str
    """The comment on its line, else the one right above; without the hash."""

    @property
    def is_int(self) -> bool:
        """Whether only whole numbers make sense."""
        return isinstance(self.value, int)


@dataclass(frozen=True)
class Constraint:
    """A condition over constants that the program states and that must stay true."""

    expression: ast.expr
    text: str
    names: frozenset[str]


@dataclass(frozen=True)
class Program:
    """A parsed program: its constants, what follows from them, what must hold."""

    text: str
    constants: tuple[Constant, ...]
    derived: tuple[tuple[str, ast.expr], ...]
    constraints: tuple[Constraint, ...]
    known: Mapping[str, Number] = field(default_factory=dict)
    """Numbers that it imports."""

    def values(self, changes: Mapping[str, Number] | None = None) -> dict[str, Number]:
        """Return every known number by name, with `changes` applied and derived ones recomputed."""
        values = {**self.known, **{c.name: c.value for c in self.constants}, **(changes or {})}
        for name, expression in self.derived:
            try:
                values[name] = evaluate(expression, values)
            except UnknownError:
                values.pop(name, None)
        return values

    def broken(self, changes: Mapping[str, Number]) -> Constraint | None:
        """Return the first constraint that holds now and would not hold after `changes`."""
        before, after = self.values(), self.values(changes)
        for constraint in self.constraints:
            try:
                held = bool(evaluate(constraint.expression, before))
            except UnknownError:
                continue
            try:
                holds = bool(evaluate(constraint.expression, after))
            except UnknownError:
                holds = False
            if held and not holds:
                return constraint
        return None


def parse(text: str, known: Mapping[str, Number] | None = None) -> Program:
    """Read a program's constants.

    Args:
        text: The program.
        known: Numbers it may import, by name: for what it asserts about them.

    Raises:
        SyntaxError: the text is not Python.
    """
    tree = ast.parse(text)
    comments = _comments(text)
    offsets = _line_offsets(text)
    data = text.encode()
    constants: list[Constant] = []
    derived: list[tuple[str, ast.expr]] = []
    num_assigned: dict[str, int] = {}
    for node in tree.body:
        name, value = _assignment(node)
        if name is None or value is None:
            continue
        num_assigned[name] = num_assigned.get(name, 0) + 1
        if not _UPPER.match(name):  # `tokens = ROWS * LENGTH`, which an assertion may name
            derived.append((name, value))
            continue
        for label, item in _items(name, value):
            number = _plain_number(item)
            if number is None:
                if label == name:
                    derived.append((name, item))
                continue
            start = offsets[item.lineno - 1] + item.col_offset
            end = offsets[(item.end_lineno or item.lineno) - 1] + (item.end_col_offset or 0)
            comment = _comment_for(node.lineno, item.end_lineno or item.lineno, comments)
            literal = data[start:end].decode()
            constants.append(Constant(label, number, start, end, literal, comment))
    printed = _printed_only(tree)
    once = tuple(
        c
        for c in constants
        if num_assigned[c.name.split("[")[0]] == 1 and c.name.split("[")[0] not in printed
    )
    derived = [(name, value) for name, value in derived if num_assigned[name] == 1]
    numbers = {name for name, _ in derived}
    constraints = (*_assertions(tree, numbers), *_stated(once))
    return Program(text, once, tuple(derived), constraints, known or {})


def replace(program: Program, changes: Mapping[str, Number]) -> str:
    """Return the source with the values of some constants replaced, everything else untouched.

    Raises:
        KeyError: a name is not one of the constants.
    """
    by_name = {c.name: c for c in program.constants}
    data = program.text.encode()
    for constant in sorted((by_name[name] for name in changes), key=lambda c: -c.start):
        literal = format_number(changes[constant.name], constant.literal)
        data = data[: constant.start] + literal.encode() + data[constant.end :]
    return data.decode()


def format_number(value: Number, like: str) -> str:
    """Write a number in the manner of an existing literal: `2**18`, `1 << 18`, `1_000`, `3e-4`."""
    if isinstance(value, int):
        is_power = value > 0 and value & (value - 1) == 0
        if is_power and re.match(r"2\s*\*\*", like):
            return re.sub(r"\d+\s*\Z", str(value.bit_length() - 1), like)
        if is_power and re.match(r"1\s*<<", like):
            return re.sub(r"\d+\s*\Z", str(value.bit_length() - 1), like)
        return f"{value:_}" if "_" in like else str(value)
    if "e" in like.lower() and value != 0 and not 1e-2 <= abs(value) < 1e4:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:_}" if "_" in like and float(value).is_integer() else repr(float(value))


def changed(before: str, after: str) -> dict[str, Number] | None:
    """Return the constants in which two programs differ, or None if anything else differs too.

    Comments and formatting do not count. An empty result means the programs do the same.
    """
    try:
        old, new = parse(before), parse(after)
        names = {c.name for c in old.constants}
        if names != {c.name for c in new.constants}:
            return None
        values = {c.name: c.value for c in new.constants}
        changes = {c.name: values[c.name] for c in old.constants if values[c.name] != c.value}
        rest = {c.name: c.value for c in old.constants if c.name in changes}
        same = ast.dump(ast.parse(replace(new, rest))) == ast.dump(ast.parse(before))
    except (SyntaxError, ValueError, RecursionError):
        return None
    return changes if same else None


def _assignment(node: ast.stmt) -> tuple[str | None, ast.expr | None]:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=value):
            return name, value
    return None, None


def _items(name: str, value: ast.expr) -> list[tuple[str, ast.expr]]:
    if isinstance(value, ast.Tuple | ast.List) and value.elts:
        return [(f"{name}[{i}]", item) for i, item in enumerate(value.elts)]
    return [(name, value)]


def _plain_number(node: ast.expr) -> Number | None:
    """The number of an expression of literals only; None for names, booleans and the rest."""
    if any(
        isinstance(part, ast.Name | ast.Call | ast.Compare | ast.BoolOp | ast.Not)
        or (isinstance(part, ast.Constant) and isinstance(part.value, bool))
        for part in ast.walk(node)
    ):
        return None
    try:
        return evaluate(node, {})
    except UnknownError:
        return None


def _line_offsets(text: str) -> list[int]:
    """Byte offset of each line, split where Python splits (not at form feeds)."""
    offsets = [0]
    data = text.encode()
    offsets.extend(match.end() for match in re.finditer(rb"\r\n|\n|\r", data))
    return offsets


def _comments(text: str) -> dict[int, tuple[str, bool]]:
    """Line number -> (comment without hash, whether the line holds nothing else)."""
    found: dict[int, tuple[str, bool]] = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                is_alone = not token.line[: token.start[1]].strip()
                found[token.start[0]] = (token.string.lstrip("#").strip(), is_alone)
    except (tokenize.TokenError, IndentationError):
        return found
    return found


def _comment_for(first: int, last: int, comments: Mapping[int, tuple[str, bool]]) -> str:
    for line in range(first, last + 1):
        if line in comments:
            return comments[line][0]
    above = comments.get(first - 1)
    return above[0] if above and above[1] else ""


def _printed_only(tree: ast.Module) -> set[str]:
    """Return the names that are used, but only for what is printed, by however many variables in between."""
    uses: dict[str, set[str | None]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Call(func=ast.Name(id="print"))):
                goal: str | None = ""
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AugAssign(target=ast.Name(id=name)):
                goal = name
            case ast.stmt() if not hasattr(node, "body"):
                goal = None
            case _:
                continue
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
                uses.setdefault(part.id, set()).add(goal)
    for node in ast.walk(tree):  # heads of loops, conditions and functions decide what is trained
        if isinstance(node, ast.stmt) and hasattr(node, "body"):
            heads = [
                v for k, v in ast.iter_fields(node) if k not in ("body", "orelse", "finalbody")
            ]
            for head in heads:
                for top in head if isinstance(head, list) else [head]:
                    for part in ast.walk(top) if isinstance(top, ast.AST) else ():
                        if isinstance(part, ast.Name):
                            uses.setdefault(part.id, set()).add(None)
    printed = {"", *uses}
    while bad := {name for name in printed & uses.keys() if not uses[name] <= printed}:
        printed -= bad
    return printed - {""}


def _assertions(tree: ast.Module, numbers: Collection[str]) -> list[Constraint]:
    found = []
    for node in ast.walk(tree):
        test = None
        if isinstance(node, ast.Assert):
            test = node.test
        elif (
            isinstance(node, ast.If)
            and not node.orelse
            and len(node.body) == 1
            and isinstance(node.body[0], ast.Raise)
        ):
            test = ast.UnaryOp(ast.Not(), node.test)
        if test is None:
            continue
        names = frozenset(n.id for n in ast.walk(test) if isinstance(n, ast.Name))
        if names and all(_UPPER.match(n) or n in CALLS or n in numbers for n in names):
            found.append(Constraint(test, ast.unparse(test), names))
    return found


_TERM = r"`?([A-Z][A-Z0-9_]*|\d[\d_]*)`?"
_MULTIPLE = re.compile(r"\b(?:multiples? of|divisible by)\s+" + _TERM)
_DIVIDES = re.compile(r"\b(?:divides|must divide|a divisor of)\s+" + _TERM)


def _stated(constants: tuple[Constant, ...]) -> list[Constraint]:
    """Constraints that comments state: `multiple of 64`, `divisible by N_HEAD`, `divides N_EMBD`."""
    found = []
    for constant in constants:
        if not constant.is_int:
            continue
        for pattern, template in ((_MULTIPLE, "{0} % {1} == 0"), (_DIVIDES, "{1} % {0} == 0")):
            for match in pattern.finditer(constant.comment):
                text = template.format(constant.name, match.group(1))
                names = frozenset({constant.name, match.group(1)})
                found.append(Constraint(ast.parse(text, mode="eval").body, text, names))
    return found
