"""Computes arithmetic and conditions over known names from a syntax tree; nothing is executed."""

import ast
import operator
from collections.abc import Callable, Mapping

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
