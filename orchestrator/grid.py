"""From a base, its axes and replicates to every run, each one a validated spec.

Configs are laid out with the first axis slowest; runs repeat them once a replicate. The specs of
one config share what its seeds cannot change, so a replicate costs microseconds.
"""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from orchestrator.axes import Axis, Field, NotAMapping, assign, in_order
from orchestrator.errors import BadRequest
from orchestrator.fork_sources import forked, started
from orchestrator.yaml_source import Place, Source
from workloads.errors import Problem, SpecError
from workloads.spec import RunSpec, Seeds, resolve

Replicates = int | dict[str, int]  # n paired seeds, or {"init": a, "data": b} crossed ones

OF_THE_RUN = ("stop", "log")  # keys of a sweep file that are parts of every run's spec
MOST_RUNS = 1_000_000


def seed_offsets(replicates: Replicates) -> list[tuple[int, int]]:
    """What each replicate adds to the base's seeds, (init, data); more replicates keep those of fewer."""
    if isinstance(replicates, int):
        return [(i, i) for i in range(replicates)]
    return [(init, data) for data in range(replicates["data"]) for init in range(replicates["init"])]


def check_overridden_base(axes: Sequence[Axis], *, source: Source) -> None:
    """An override that an axis would undo is a mistake, not a wish.

    Raises:
        BadRequest: naming the override and the axis.
    """
    for place in source.overrides:
        field = place[1:] if place[0] == "base" else place
        for axis in axes:
            if any(field[: len(varied)] == varied for varied in axis.fields):
                way_out = f"set axes.{axis.key}=[…] instead"
                raise source.fault(place, f"{'.'.join(field)}: is varied by the axis {axis.key}; {way_out}")


def expand(
    base: dict[str, Any], *, axes: tuple[Axis, ...], replicates: Replicates, source: Source
) -> tuple[RunSpec, ...]:
    """Every run, replicate-major; forks of a sweep each start from the same replicate.

    Raises:
        BadRequest: there are too many, two configs are the same, or one breaks the schema of runs.
    """
    each = replicates if isinstance(replicates, int) else math.prod(replicates.values())
    total = each * math.prod(len(axis.rows) for axis in axes)
    if total > MOST_RUNS:
        way_out = "Thin an axis or lower replicates"
        raise BadRequest(f"{source.file}: has {total} runs; expected at most {MOST_RUNS}. {way_out}")
    with _collector_paused():
        base, sources = forked(base, axes=axes, source=source)
        configs = _configs(base, axes=axes, source=source)
        offsets = seed_offsets(replicates)
        replicates_of = [list(config.reseeded(_seeds(config, offsets))) for config in configs]
        runs = tuple(run for replicate in zip(*replicates_of, strict=True) for run in replicate)
        return tuple(started(run, sources, base=base, source=source) for run in runs) if sources else runs


@contextmanager
def _collector_paused() -> Iterator[None]:
    """No garbage arises while specs pile up, and walking them over and over costs half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _seeds(config: RunSpec, offsets: Sequence[tuple[int, int]]) -> Iterator[Seeds]:
    """The seeds of each replicate of a config."""
    for init, data in offsets:
        yield Seeds(init=config.seed.init + init, data=config.seed.data + data)


def _configs(base: dict[str, Any], *, axes: tuple[Axis, ...], source: Source) -> list[RunSpec]:
    """One spec a config, none twice."""
    first_with: dict[RunSpec, tuple[int, ...]] = {}
    for choice in itertools.product(*(range(len(axis.rows)) for axis in axes)):
        config = _config(base, axes=axes, choice=choice, source=source)
        earlier = first_with.setdefault(config, choice)
        if earlier is not choice:
            raise _repeated(axes, choice=choice, earlier=earlier, source=source)
    return list(first_with)


def _config(base: dict[str, Any], *, axes: tuple[Axis, ...], choice: tuple[int, ...], source: Source) -> RunSpec:
    """The base with one point of every axis laid over it."""
    points = [(axis, axis.rows[row]) for axis, row in zip(axes, choice, strict=True)]
    settings = [setting for axis, values in points for setting in zip(axis.fields, values, strict=True)]
    data = base
    field: Field = ()
    try:
        for field, value in in_order(settings):
            data = assign(data, field, value)
        return resolve(data)
    except NotAMapping as error:
        place = _set_by(error.path, axes=axes, choice=choice) or _set_by(field, axes=axes, choice=choice)
        raise source.fault(place or ("axes",), str(error)) from None
    except SpecError as error:
        # a misspelt key also leaves one missing, but is the better news
        first, *others = sorted(error.problems, key=lambda problem: problem.got != "an unknown key")
        more = f" (and {len(others)} more)" if others else ""
        place = _place(first, axes=axes, choice=choice, source=source)
        raise source.fault(place, f"{first}{more}") from None


def _place(problem: Problem, *, axes: tuple[Axis, ...], choice: tuple[int, ...], source: Source) -> Place:
    """Where a faulty field got its value: on an axis that sets it or a key of it, or in the base."""
    path = problem.path
    place = _set_by(path, axes=axes, choice=choice) or _set_below(path, axes=axes, choice=choice)
    if place is not None:
        return place
    in_file = {known[:1] for known in (*source.lines, *source.overrides)}
    return path if path[:1] in in_file and path[0] in OF_THE_RUN else ("base", *path)


def _set_by(path: Field, *, axes: tuple[Axis, ...], choice: tuple[int, ...]) -> Place | None:
    """The row of the deepest axis that sets a field, or what holds it."""
    setters = [
        (len(field), (*axis.place, str(row)))
        for axis, row in zip(axes, choice, strict=True)
        for field in axis.fields
        if field == path[: len(field)]
    ]
    return max(setters)[1] if setters else None


def _set_below(path: Field, *, axes: tuple[Axis, ...], choice: tuple[int, ...]) -> Place | None:
    """The row of an axis that sets a key of a faulty mapping."""
    for axis, row in zip(axes, choice, strict=True):
        if any(field[:-1] == path for field in axis.fields):
            return (*axis.place, str(row))
    return None


def _repeated(
    axes: tuple[Axis, ...], *, choice: tuple[int, ...], earlier: tuple[int, ...], source: Source
) -> BadRequest:
    """Two points of the grid are one config: name the first axis on which they differ."""
    triples = zip(axes, choice, earlier, strict=True)
    axis, row = next((axis, row) for axis, row, other in triples if row != other)
    values = list(axis.rows[row]) if len(axis.fields) > 1 else axis.rows[row][0]
    message = f"axes.{axis.key}: got {values!r} twice; expected each value once"
    return source.fault((*axis.place, str(row)), message)
