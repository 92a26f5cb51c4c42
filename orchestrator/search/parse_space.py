"""From `search.space` of a sweep file to a Space: every end and every choice tried once, so that faults show early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.axes import RANGES, linear_range, log_range
from orchestrator.errors import BadRequest, quoted
from orchestrator.grid import OF_THE_RUN, Replicates
from orchestrator.search.space import Setting, Space, Unfit
from orchestrator.yaml_source import Place, Source
from workloads.errors import near_miss
from workloads.fields import column_types
from workloads.spec import RunSpec

PLACE: Place = ("search", "space")
FORMS = "a list of values, {range: [lo, hi]}, {log_range: [lo, hi]} or {values: […]}, with `step`, `points`, `when`"
KEYS = (*RANGES, "values", "step", "points", "when")
MOST_POINTS = 10_000


def read_space(data: Any, *, base: Mapping[str, Any], replicates: Replicates, source: Source) -> Space:
    """The space of a search.

    Raises:
        BadRequest: with file and line; also where an end or a choice makes no run of the base.
    """
    if not isinstance(data, dict) or not data:
        raise source.expected(
            PLACE, got=data, expected="a mapping of fields, such as {optim.lr: {log_range: [lo, hi]}}"
        )
    settings = [_setting(name, value, source=source) for name, value in data.items()]
    _check_base(settings, source=source)
    ordered = _in_order(settings, source=source)
    space = Space(base=base, settings=tuple(ordered), replicates=replicates)
    typed = [_typed(space, one, source=source) for one in ordered]
    space = replace(space, settings=tuple(typed))
    outer = {one.field for one in typed if _is_outer(space, one, source=source)}
    marked = [replace(one, is_outer=one.field in outer) for one in typed]
    return replace(space, settings=tuple(_in_order(marked, source=source)))


def _setting(name: str, value: Any, *, source: Source) -> Setting:
    place = (*PLACE, name)
    if not isinstance(name, str) or any(not word for word in name.split(".")) or "," in name:
        raise source.expected(place, got=name, expected="one field such as optim.lr", key="search.space")
    if name.split(".", maxsplit=1)[0] == "seed":
        raise source.fault(place, "search.space: seeds belong to replicates; set replicates, or base.seed")
    if isinstance(value, list):
        value = {"values": value}
    if not isinstance(value, dict):
        raise source.expected(place, got=value, expected=FORMS)
    for key in value:
        if key not in KEYS:
            hint = near_miss(key, KEYS)
            listed = f"one of {', '.join(KEYS)}"
            raise source.expected((*place, key), got=key, expected=listed, hint=hint, key=".".join(place))
    kinds = [key for key in ("values", *RANGES) if key in value]
    if len(kinds) != 1:
        raise source.fault(place, f"{'.'.join(place)}: got {' and '.join(kinds) or 'no values'}; expected {FORMS}")
    when = _when(value.get("when", {}), place=(*place, "when"), source=source)
    if kinds[0] == "values":
        return Setting(field=name, kind="choice", choices=_choices(value, place=place, source=source), when=when)
    return _range(name, value, kind=kinds[0], when=when, source=source)


def _choices(value: Mapping[str, Any], *, place: Place, source: Source) -> tuple[Any, ...]:
    for key in ("step", "points"):
        if key in value:
            raise source.fault((*place, key), f"{'.'.join(place)}: {key} belongs to a range, not to a list of values")
    listed = value["values"]
    if not isinstance(listed, list) or not listed:
        raise source.expected(place, got=listed, expected=FORMS)
    for i, one in enumerate(listed):
        if any(one == other and type(one) is type(other) for other in listed[:i]):
            raise source.fault(
                (*place, str(i)), f"{'.'.join(place)}: got {quoted(one)} twice; expected each value once"
            )
    return tuple(listed)


def _range(
    name: str, value: Mapping[str, Any], *, kind: str, when: Mapping[str, tuple[Any, ...]], source: Source
) -> Setting:
    place = (*PLACE, name)
    ends = value[kind]
    numbers = isinstance(ends, list) and len(ends) == 2 and all(type(end) in (int, float) for end in ends)
    if not numbers or ends[0] >= ends[1] or (kind == "log_range" and ends[0] <= 0):
        expected = f"[lo, hi], two {RANGES[kind]}, the smaller first"
        raise source.expected((*place, kind), got=ends if not isinstance(ends, list) else str(ends), expected=expected)
    low, high = ends
    if "points" in value:
        points = value["points"]
        if "step" in value or type(points) is not int or not 2 <= points <= MOST_POINTS:
            raise source.expected(
                (*place, "points"), got=points, expected=f"an integer from 2 to {MOST_POINTS}, no step"
            )
        make = log_range if kind == "log_range" else linear_range
        return Setting(field=name, kind="choice", choices=tuple(make(low, high, points=points)), when=when)
    step = value.get("step")
    if step is not None and (kind == "log_range" or type(step) not in (int, float) or not 0 < step <= high - low):
        expected = f"a number up to {high - low:g}" if kind == "range" else "no step in a log_range; points has them"
        raise source.expected((*place, "step"), got=step, expected=expected)
    is_int = all(type(number) is int for number in (low, high, 1 if step is None else step))
    return Setting(
        field=name,
        kind="int" if is_int else "float",
        low=low,
        high=high,
        is_log=kind == "log_range",
        step=step,
        when=when,
    )


def _when(value: Any, *, place: Place, source: Source) -> dict[str, tuple[Any, ...]]:
    if not isinstance(value, dict):
        raise source.expected(place, got=value, expected="a mapping such as {model.attention.name: heat}")
    return {key: tuple(values) if isinstance(values, list) else (values,) for key, values in value.items()}


def _check_base(settings: Sequence[Setting], *, source: Source) -> None:
    """An override that the space would undo is a mistake, and so is a field within another's branch without `when`."""
    for at in source.overrides:
        path = at[1:] if at[0] == "base" else at
        for one in settings:
            if path[: len(one.path)] == one.path:
                way_out = f"set search.space.{one.field}=[…] instead"
                raise source.fault(at, f"{'.'.join(path)}: is varied by the search; {way_out}")


def _in_order(settings: Sequence[Setting], *, source: Source) -> list[Setting]:
    """Outer settings first, each behind those that its `when` names."""
    names = [one.field for one in settings]
    for one in settings:
        for parent, values in one.when.items():
            place = (*PLACE, one.field, "when", parent)
            if parent not in names or parent == one.field:
                others = [name for name in names if name != one.field]
                expected = f"another field of the space, one of {', '.join(others) or 'which there is none'}"
                hint = near_miss(parent, others)
                raise source.expected(place, got=parent, expected=expected, hint=hint, key=".".join(place[:-1]))
            owner = next(other for other in settings if other.field == parent)
            for value in values:
                if not owner.holds(value):
                    raise source.expected(place, got=value, expected=f"values that {parent} has in this space")
    left, ordered = sorted(settings, key=lambda one: not one.is_outer), list[Setting]()
    while left:
        ready = next((one for one in left if all(p in {o.field for o in ordered} for p in one.when)), None)
        if ready is None:
            circle = ", ".join(one.field for one in left)
            raise source.fault(PLACE, f"search.space: {circle}: each waits for another; expected no circles of `when`")
        ordered.append(ready)
        left.remove(ready)
    return ordered


def _example(space: Space, one: Setting, value: Any) -> dict[str, Any]:
    """A point that has a setting at a value; of the others, the first that goes with it."""
    forced: dict[str, Any] = {one.field: value}
    wanted = [one]
    while wanted:
        for parent, values in wanted.pop().when.items():
            forced.setdefault(parent, values[0])
            wanted.append(space[parent])
    params: dict[str, Any] = {}
    for other in space.settings:
        if other.is_active(params):
            params[other.field] = forced.get(other.field, other.ends[0])
    return params


def _tried(space: Space, one: Setting, value: Any, *, source: Source) -> RunSpec:
    """The run that has a setting at a value."""
    params = _example(space, one, value)
    try:
        return space.config(params)
    except Unfit as unfit:
        raise _misfit(unfit, params=params, source=source) from None


def _misfit(unfit: Unfit, *, params: Mapping[str, Any], source: Source) -> BadRequest:
    """Where a faulty field got its value: in the space, or in the base."""
    touching = [
        name
        for name in params
        if _covers(tuple(name.split(".")), unfit.path) or _covers(unfit.path, tuple(name.split(".")))
    ]
    if touching:
        return source.fault((*PLACE, max(touching, key=len)), str(unfit))
    in_file = {known[:1] for known in (*source.lines, *source.overrides)}
    own = bool(unfit.path) and unfit.path[0] in OF_THE_RUN and unfit.path[:1] in in_file
    return source.fault(unfit.path if own else ("base", *unfit.path), str(unfit))


def _covers(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return bool(one) and one == other[: len(one)]


def _typed(space: Space, one: Setting, *, source: Source) -> Setting:
    """A range of whole numbers over a field that is none is one of numbers."""
    if one.kind != "int":
        for value in one.ends:
            _tried(space, one, value, source=source)
        return one
    found = [_tried(space, one, value, source=source) for value in one.ends]
    if column_types(found[0]).get(one.field) is not float:
        return one
    step = None if one.step is None else float(one.step)
    return replace(one, kind="float", low=float(one.low), high=float(one.high), step=step)


def _is_outer(space: Space, one: Setting, *, source: Source) -> bool:
    """Whether its values give runs of different shapes."""
    return len({_tried(space, one, value, source=source).shape_key for value in one.ends}) > 1
