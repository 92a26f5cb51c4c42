"""Forks of a whole sweep: each replicate starts from the same replicate of another sweep.

    base:
      start_from: {sweep: paper2_completion_small, step: 3500, fresh: embed}
      seed: {init: 1000}

When a sweep is loaded, `sweep` becomes the run_id of each replicate's own source, so a run's identity stays a plain
{run, step}. The other sweep is looked up as on the command line, and without overrides. Where it has several
configs, `where: {optim.lr: 1.0e-3}` says which. Replicates are counted from each sweep's own `base.seed`; where that
is the same, parts drawn afresh are drawn as the other run drew them at its start. `step: end` is the last update of
runs that nothing stops early.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.axes import Axis
from orchestrator.shipped import find_sweep
from orchestrator.yaml_source import Place, Source
from workloads.errors import near_miss
from workloads.fields import column_types

if TYPE_CHECKING:
    from orchestrator.sweep import Sweep
    from workloads.spec import RunSpec

Replicate = tuple[int, int]  # seeds (init, data), less those of the sweep's base
Sources = Mapping[Replicate, str]  # run_id of the other sweep

KEYS = ("sweep", "step", "fresh", "where")
PLACE: Place = ("base", "start_from")
_ABOVE: ContextVar[tuple[Path, ...]] = ContextVar("_ABOVE", default=())  # files that wait for the one being loaded


def forked(base: dict[str, Any], *, axes: tuple[Axis, ...], source: Source) -> tuple[dict[str, Any], Sources]:
    """A base whose `start_from` names some run in place of a sweep, and which run each pair of seeds starts from.

    Raises:
        BadRequest: there is no such sweep, or it does not say which of its runs.
    """
    given = base.get("start_from")
    if not isinstance(given, Mapping) or "sweep" not in given:
        return base, {}
    for key in given:
        if key not in KEYS:
            hint = "Give a run or a sweep" if key == "run" else near_miss(key, KEYS)
            raise source.expected((*PLACE, key), got=key, expected=f"keys {', '.join(KEYS)}", hint=hint)
    for axis in axes:
        if ("start_from",) in axis.fields or ("start_from", "run") in axis.fields:
            raise source.fault(
                axis.place, f"axes.{axis.key}: base.start_from.sweep says which run a replicate starts from"
            )
    other, runs = _runs(given, source=source)
    found: dict[Replicate, str] = {}
    for run in runs:
        replicate = _replicate(run, other.base)
        if replicate in found:
            way_out = "say which in start_from.where, such as {optim.lr: 0.001}"
            raise source.fault((*PLACE, "sweep"), f"start_from.sweep: {given['sweep']} has several configs; {way_out}")
        found[replicate] = run.run_id
    settings = {"run": runs[0].run_id, "step": _step(given, runs, source=source)}
    fresh = {"fresh": given["fresh"]} if "fresh" in given else {}
    return base | {"start_from": settings | fresh}, found


def _runs(given: Mapping[str, Any], *, source: Source) -> tuple[Sweep, list[RunSpec]]:
    """The other sweep, and its runs that `where` asks for."""
    from orchestrator.sweep import load_sweep

    name = given["sweep"]
    if not isinstance(name, str):
        raise source.expected((*PLACE, "sweep"), got=name, expected="a file, or the name of a shipped sweep")
    path = find_sweep(name)
    if path.resolve() == Path(source.file).resolve():
        raise source.fault((*PLACE, "sweep"), "start_from.sweep: got the sweep itself; expected another")
    above = _ABOVE.get()
    if path.resolve() in above:
        raise source.fault((*PLACE, "sweep"), f"start_from.sweep: {name} starts, in the end, from itself")
    token = _ABOVE.set((*above, Path(source.file).resolve()))
    try:
        other = load_sweep(path)
    finally:
        _ABOVE.reset(token)
    if not other.runs:
        raise source.fault(
            (*PLACE, "sweep"), f"start_from.sweep: {name} is a search; expected a sweep that lists its runs"
        )
    where = given.get("where") or {}
    for field in where:
        if field not in column_types(other.runs[0]):
            raise source.fault(
                (*PLACE, "where"), f"start_from.where: got '{field}'; expected fields of a run of {name}"
            )
    runs = [run for run in other.runs if all(run.columns().get(field) == value for field, value in where.items())]
    if not runs:
        raise source.fault((*PLACE, "where"), f"start_from.where: got values that no run of {name} has")
    return other, runs


def _replicate(run: RunSpec, base: Mapping[str, Any]) -> Replicate:
    first = base.get("seed") or {}
    return (run.seed.init - first.get("init", 0), run.seed.data - first.get("data", 0))


def _step(given: Mapping[str, Any], runs: list[RunSpec], *, source: Source) -> Any:
    step = given.get("step")
    if step != "end":
        return step  # what else it may be, the run's spec knows
    if any(run.stop.after_event_steps is not None for run in runs) or len({run.budget.steps for run in runs}) > 1:
        why = f"runs of {given['sweep']} end at steps of their own"
        raise source.fault((*PLACE, "step"), f"start_from.step: got 'end', but {why}; expected a step that they keep")
    return runs[0].budget.steps


def started(run: RunSpec, sources: Sources, *, base: Mapping[str, Any], source: Source) -> RunSpec:
    """A run that starts from its own replicate; the copy takes its `shape_key` along, which `start_from.run` is not in.

    Raises:
        BadRequest: the other sweep has no such replicate.
    """
    replicate = _replicate(run, base)
    if replicate not in sources:
        way_out = f"it has {len(sources)}; lower replicates, or give it more"
        message = f"start_from.sweep: got no replicate with seeds init +{replicate[0]}, data +{replicate[1]}; {way_out}"
        raise source.fault((*PLACE, "sweep"), message)
    assert run.start_from is not None
    fork = run.model_copy(update={"start_from": run.start_from.model_copy(update={"run": sources[replicate]})})
    for name in ("run_id", "config_id"):  # they came along, and are those of another source
        fork.__dict__.pop(name, None)
    return fork
