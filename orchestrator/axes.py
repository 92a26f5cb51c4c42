"""Axes of a sweep: which fields vary, over which values, and how a value enters a run's description.

    axes:
      optim.lr: {log_range: [1.0e-4, 3.0e-3], points: 4}      # ends included, 6 significant digits
      model.attention.temperature: [0.5, 1, 2]
      model.attention: [{name: softmax}, {name: heat}]        # a mapping replaces the base's, whole
      budget.steps, optim.weight_decay: [[500, 0], [1000, 0.1]]   # varied together, one row a point

Distinct axes are crossed. Fields that one key joins by commas move together. Where axes meet on one
branch, the shallower is laid down first and a `name` before its neighbours, so the order in which a
file lists its axes never changes a run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from orchestrator.errors import BadRequest, quoted
from orchestrator.yaml_source import Place, Source
from workloads.fields import Frozen
from workloads.spec import RunSpec

Field = tuple[str, ...]  # ("optim", "lr")
MOST_POINTS = 1_000_000
POINT_FORMS = "a list of values, {range: [lo, hi], points: n} or {log_range: [lo, hi], points: n}"
RANGES = {"range": "numbers", "log_range": "positive numbers"}
KEYS_OF_A_RANGE = (*RANGES, "points")


class NotAMapping(Exception):
    """A path leads through a value that has no keys."""

    def __init__(self, path: Field, value: object):
        super().__init__(f"{'.'.join(path)}: got {quoted(value)}; expected a mapping of keys to values")
        self.path = path


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis.

    Attributes:
        key: as the file spells it.
        fields: the fields that it sets; more than one where they vary together.
        rows: its points, each with one value a field.
    """

    key: str
    fields: tuple[Field, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def place(self) -> Place:
        """Where it stands in the sweep file."""
        return ("axes", self.key)

    def fault(self, message: str, *, source: Source) -> BadRequest:
        """An error about the whole axis."""
        return source.fault(self.place, f"axes.{self.key}: {message}")

    def columns(self) -> dict[str, tuple[Any, ...]]:
        """The values of each of its fields: `{"optim.lr": (0.001, 0.003)}`."""
        return {".".join(field): tuple(row[i] for row in self.rows) for i, field in enumerate(self.fields)}


def axis_key(key: str) -> str:
    """An axis key without the blanks around its commas."""
    return ",".join(part.strip() for part in key.split(","))


def parse_axes(data: Mapping[str, Any], *, source: Source) -> tuple[Axis, ...]:
    """The axes of a sweep file, in its order.

    Raises:
        BadRequest: an axis is empty, has no list or range, or a field is on two axes.
    """
    axes = tuple(_axis(key, value, source=source) for key, value in data.items())
    owners: dict[Field, Axis] = {}
    for axis in axes:
        for field in axis.fields:
            if field in owners:
                raise axis.fault(f"{'.'.join(field)} is given twice; expected one axis a field", source=source)
            if field[0] == "seed":
                way_out = "set replicates, or base.seed to start them elsewhere"
                raise axis.fault(f"seeds belong to replicates; {way_out}", source=source)
            owners[field] = axis
    return axes


def _axis(key: str, value: Any, *, source: Source) -> Axis:
    place = ("axes", key)
    fields = tuple(tuple(part.split(".")) for part in axis_key(key).split(","))
    if any(not word for field in fields for word in field):
        expected = "fields such as optim.lr, joined by commas to vary together"
        raise source.expected(place, got=key, expected=expected, key="axes")
    if len(fields) == 1:
        points = _points(value, place=place, source=source)
        return Axis(key=key, fields=fields, rows=tuple((point,) for point in points))
    row_form = f"a list of rows, each with {len(fields)} values"
    rows = _listed(value, place=place, source=source, expected=row_form)
    for position, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(fields):
            got = f"{len(row)} values" if isinstance(row, list) else quoted(row)
            message = f"axes.{key}: got {got} in row {position + 1}; expected {len(fields)}, one a field"
            raise source.fault((*place, str(position)), message)
    return Axis(key=key, fields=fields, rows=tuple(tuple(row) for row in rows))


def _listed(value: Any, *, place: Place, source: Source, expected: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise source.expected(place, got=value, expected=expected)
    return value


def _points(value: Any, *, place: Place, source: Source) -> list[Any]:
    """The values of an axis over one field: as listed, or drawn from a range."""
    if not isinstance(value, Mapping):
        return _listed(value, place=place, source=source, expected=POINT_FORMS)
    kind = next((name for name in RANGES if name in value), None)
    if kind is None or set(value) != {kind, "points"}:
        got = ", ".join(map(str, value)) or "no keys"
        raise source.fault(place, f"{'.'.join(place)}: got the keys {got}; expected {POINT_FORMS}")
    lo, hi = _ends(value[kind], kind=kind, place=(*place, kind), source=source)
    n = value["points"]
    if type(n) is not int or not 2 <= n <= MOST_POINTS:
        raise source.expected((*place, "points"), got=n, expected=f"an integer from 2 to {MOST_POINTS}")
    return log_range(lo, hi, points=n) if kind == "log_range" else linear_range(lo, hi, points=n)


def _ends(value: Any, *, kind: str, place: Place, source: Source) -> tuple[float, float]:
    numbers = isinstance(value, list) and len(value) == 2 and all(type(end) in (int, float) for end in value)
    if not numbers or value[0] == value[1] or (kind == "log_range" and min(value) <= 0):
        got = value if not isinstance(value, list) else str(value)
        raise source.expected(place, got=got, expected=f"[lo, hi], two different {RANGES[kind]}")
    return value[0], value[1]


def linear_range(lo: float, hi: float, *, points: int) -> list[float]:
    """Evenly spaced values, ends included; integers where all of them are integral."""
    inner = [float(f"{lo + (hi - lo) * i / (points - 1):.12g}") for i in range(1, points - 1)]
    return _integral([lo, *inner, hi])


def log_range(lo: float, hi: float, *, points: int) -> list[float]:
    """Values with equal ratios, ends included; 6 significant digits keep ids stable and readable."""
    ratio = math.log(hi / lo)
    inner = [float(f"{lo * math.exp(ratio * i / (points - 1)):.6g}") for i in range(1, points - 1)]
    return _integral([lo, *inner, hi])


def _integral(values: list[float]) -> list[float]:
    return [int(value) for value in values] if all(float(value).is_integer() for value in values) else values


def in_order(settings: Iterable[tuple[Field, Any]]) -> list[tuple[Field, Any]]:
    """The order in which settings are laid down: shallow before deep, a name before its neighbours."""
    return sorted(settings, key=lambda setting: (len(setting[0]), setting[0][-1] != "name", setting[0]))


def assign(data: Mapping[str, Any], path: Field, value: Any, *, variants: bool = True) -> dict[str, Any]:
    """The data with a value at a path; mappings on the way are copied, the rest is shared.

    With `variants` the data is a run's description: a new `name` drops the neighbours that only
    other variants know, and keeps the rest, misspelt ones included, for the spec to judge.

    Raises:
        NotAMapping: the path leads through a value that has no keys.
    """
    copied = _assigned(data, path, value, depth=0)
    if variants and path[-1] == "name":
        known = variants_at(path[:-1])
        if isinstance(value, str) and value in known:
            parent = copied
            for key in path[:-1]:
                parent = parent[key]
            foreign = frozenset().union(*known.values()) - known[value]
            for key in foreign & parent.keys():
                del parent[key]
    return copied


def _assigned(data: Mapping[str, Any], path: Field, value: Any, *, depth: int) -> dict[str, Any]:
    copied = dict(data)
    key = path[depth]
    if depth == len(path) - 1:
        copied[key] = value
        return copied
    inner = data.get(key, {})
    if not isinstance(inner, Mapping):
        raise NotAMapping(path[: depth + 1], inner)
    copied[key] = _assigned(inner, path, value, depth=depth + 1)
    return copied


@cache
def variants_at(path: Field) -> dict[str, frozenset[str]]:
    """The variants that a path of a run's description may hold: name -> keys."""
    classes: list[type[Frozen]] = [RunSpec]
    for key in path:
        inner = [cls.model_fields[key].annotation for cls in classes if key in cls.model_fields]
        classes = [found for annotation in inner for found in _spec_classes(annotation)]
    named = [cls for cls in classes if "name" in cls.model_fields]
    return {cls.model_fields["name"].default: frozenset(cls.model_fields) for cls in named}


def _spec_classes(annotation: Any) -> list[type[Frozen]]:
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _spec_classes(argument)]
