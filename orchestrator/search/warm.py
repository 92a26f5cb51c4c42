"""A warm start: configs of the space that the store has already, whichever sweep trained them, are told first.

A stored config belongs to the space if the values it has there, laid over the base, make exactly it: `config_id` is the
judge. It is told if it has as many ended runs as the search gives each config, whatever their seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from analysis.store import Store
from orchestrator.search.objectives import scores, unusable
from orchestrator.search.rows import Rows
from orchestrator.search.sampled import Recorder, events, excesses
from orchestrator.search.space import Setting, Space, Unfit

_ABSENT = object()


def tell_stored(recorder: Recorder, *, store: Store, rows: Rows, reads_loss: bool) -> int:
    """Tell a study what the store has of its space; gives the number of trials told now."""
    book, asked, n = recorder.book, recorder.asked, recorder.space.n_replicates
    known = {trial.config_id for trial in book.trials.values()}
    runs_of, told = rows.by_config(), 0
    for config_id, params in stored_points(store, space=recorder.space):
        runs = runs_of.get(config_id, [])
        if config_id in known or len(runs) < n:
            continue
        losses = rows.final_losses(runs) if reads_loss else {}
        outcomes = rows.outcomes(runs, losses=losses)
        found = scores(outcomes, objectives=asked.scored)
        if not unusable(found, objectives=asked.scored):
            book.add(
                params,
                config_id=config_id,
                scores=found,
                constraints=excesses(asked, found),
                runs=len(runs),
                events=events(outcomes),
            )
            told += 1
    return told


def stored_points(store: Store, *, space: Space) -> Iterator[tuple[str, dict[str, Any]]]:
    """The configs of a store that are points of a space: config_id and values, in the ledger's order."""
    table = store.runs_table(columns=["run_id", "config_id", "spec"])
    first = dict(zip(reversed(table["config_id"].to_pylist()), reversed(table["spec"].to_pylist()), strict=True))
    for config_id in dict.fromkeys(table["config_id"].to_pylist()):
        params = point_of(json.loads(first[config_id]), space=space)
        if params is not None and _is(config_id, params, space=space):
            yield config_id, params


def point_of(spec: dict[str, Any], *, space: Space) -> dict[str, Any] | None:
    """The values that a run's description has in a space; None where it lies outside."""
    params: dict[str, Any] = {}
    for setting in space.settings:
        if setting.is_active(params):
            value = _value(spec, setting)
            if value is _ABSENT:
                return None
            params[setting.field] = value
    return params


def _value(spec: dict[str, Any], setting: Setting) -> Any:
    """A field's value as the space has it; a choice of mappings is known by what it says."""
    found: Any = spec
    for key in setting.path:
        found = found.get(key, _ABSENT) if isinstance(found, dict) else _ABSENT
    if isinstance(found, dict):
        says = [one for one in setting.choices if isinstance(one, dict) and one.items() <= found.items()]
        return max(says, key=len) if says else _ABSENT
    if isinstance(found, int) and not isinstance(found, bool) and setting.kind == "float":
        found = float(found)
    return found if found is not _ABSENT and setting.holds(found) else _ABSENT


def _is(config_id: str, params: dict[str, Any], *, space: Space) -> bool:
    try:
        return bool(space.config(params).config_id == config_id)
    except Unfit:
        return False
