"""How results, curves and other dataclasses lie in the journal, and how they are made again.

JSON values without what is missing; a curve is a file of its own. Unknown fields are passed over when reading.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from autoresearch.types import CurvePoint, Outcome, TrialResult

CURVE_FILE = "curve.json"
LOG_FILE = "log.txt"
PROGRAM_FILE = "program.md"

T = TypeVar("T")


class Shape(NamedTuple):
    """What the fields of a class are."""

    names: frozenset[str]
    required: frozenset[str]
    defaults: dict[str, Any]
    factories: dict[str, Callable[[], Any]]


_shapes: dict[type, Shape] = {}


def shape_of(cls: type) -> Shape:
    """Return what the fields of a dataclass are; worked out once a class."""
    if cls not in _shapes:
        fields = dataclasses.fields(cls)
        missing = dataclasses.MISSING
        defaults = {f.name: f.default for f in fields if f.default is not missing}
        factories = {f.name: f.default_factory for f in fields if f.default_factory is not missing}
        names = frozenset(f.name for f in fields)
        _shapes[cls] = Shape(names, names - defaults.keys() - factories.keys(), defaults, factories)
    return _shapes[cls]


def make(cls: type[T], values: Mapping[str, Any], **more: Any) -> T:
    """Return a frozen object of the fields that `values` knows; unknown ones are left out.

    Fills the object directly: thousands of frozen dataclasses by their own `__init__` take 3 x as long.

    Raises:
        TypeError: a field without a default is missing.
    """
    shape = shape_of(cls)
    fields = {**shape.defaults, **values, **more}
    if fields.keys() != shape.names:
        for name, factory in shape.factories.items():
            if name not in fields:
                fields[name] = factory()
        if not shape.required <= fields.keys():
            raise TypeError(f"{cls.__name__}: missing {sorted(shape.required - fields.keys())}")
        if len(fields) != len(shape.names):
            fields = {name: fields[name] for name in shape.names}
    made = object.__new__(cls)
    vars(made).update(fields)
    return made


def result_to_json(result: TrialResult) -> dict[str, Any]:
    """Return a trial's result as `events.TrialJudged.result` holds it: no curve, no log, no missing number."""
    return {
        name: value
        for name in shape_of(TrialResult).names
        if name not in ("curve", "log_tail")
        and (value := getattr(result, name)) is not None
        and value not in ("", {})
    } | {"outcome": str(result.outcome)}


def result_from_json(
    values: Mapping[str, Any], curve: Sequence[CurvePoint] = (), log_tail: str = ""
) -> TrialResult:
    """Return the result that `result_to_json` wrote."""
    outcome = Outcome(values["outcome"])
    return make(TrialResult, values, outcome=outcome, curve=tuple(curve), log_tail=log_tail)


def curve_to_bytes(curve: Sequence[CurvePoint]) -> bytes:
    """Return a curve as compact JSON: a list of `[seconds, num_tokens, loss, {values}]`."""
    from autoresearch.util.text import clean_json

    rows = [
        [round(p.seconds, 3), p.num_tokens, p.loss, *([dict(p.values)] if p.values else [])]
        for p in curve
    ]
    return json.dumps(clean_json(rows), separators=(",", ":")).encode()


def curve_from_bytes(data: bytes) -> tuple[CurvePoint, ...]:
    """Return the curve that `curve_to_bytes` wrote."""
    return tuple(
        CurvePoint(row[0], row[1], row[2], row[3] if len(row) > 3 else {})
        for row in json.loads(data)
    )
