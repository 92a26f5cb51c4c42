"""A sweep: one question, as the runs that answer it.

`load_sweep` is the door: a YAML file and the command line's overrides go in; a frozen Sweep comes
out, every run of it validated, or one BadRequest that names the line to mend. Runs come
replicate-major (every config once, then every config again), so a sweep cut short has seen its
whole grid, and a sweep with more replicates starts with the runs of the one with fewer.

    name: softer-softmax        # the file's own name unless given
    question: …                 # in words
    base: {task: …, model: …, optim: …, budget: …, seed: …}     # a run, as `workloads.spec.resolve` takes it
    axes: {…}                   # what varies: see axes.py
    replicates: 8               # seeds 0…7, the same for initialisation and data; or {init: 4, data: 2}, crossed
    stop: {…}                   # parts of every run's spec that most sweeps set
    log: {…}
    search: {name: grid}        # or who asks for configs, over what, for what: see search/settings.py
    detector: contrast-1        # who judges its events, unless a command says otherwise
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator import overrides as command_line
from orchestrator.axes import parse_axes
from orchestrator.errors import hidden
from orchestrator.grid import MOST_RUNS, OF_THE_RUN, Replicates, check_overridden_base, expand, seed_offsets
from orchestrator.search.request import SEARCHES, Search, read_search, without_password
from orchestrator.yaml_source import Source, parse, read_text, resolved
from workloads.errors import near_miss
from workloads.spec import RunSpec

KEYS = ("name", "question", "base", "axes", "replicates", "stop", "log", "search", "detector")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One question and its runs.

    Attributes:
        name: what the store files it under.
        question: in words.
        base: what every run shares, as plain nested data.
        axes: values of each varied field, dotted; fields of one group in `zipped` move together.
        zipped: groups of fields that vary together.
        replicates: n paired seeds, or {"init": a, "data": b} crossed ones.
        runs: replicate-major.
        yaml: the resolved file, overrides included; loading it gives the same runs.
        overrides: as typed, less the password of a database.
        detector: who judges its events, where the file says.
        search: who asks for its configs; None where `axes` lists them. A search has no runs but those asked so far.
    """

    name: str
    question: str
    base: dict[str, Any]
    axes: dict[str, tuple[Any, ...]]
    zipped: tuple[tuple[str, ...], ...]
    replicates: Replicates
    runs: tuple[RunSpec, ...]
    yaml: str
    overrides: tuple[str, ...]
    detector: str | None = None
    search: Search | None = None

    @property
    def n_replicates(self) -> int:
        """Runs of each config."""
        return len(seed_offsets(self.replicates))

    @property
    def horizon_steps(self) -> int:
        """The largest budget of any run [optimiser steps]."""
        return self.search.budget_steps if self.search else max(run.budget.steps for run in self.runs)

    def record(self) -> dict[str, Any]:
        """What the store keeps of it, ready for JSON."""
        return {
            "name": self.name,
            "question": self.question,
            "base": self.base,
            "axes": {key: list(values) for key, values in self.axes.items()},
            "zipped": [list(group) for group in self.zipped],
            "replicates": self.n_replicates,
            "seeds": self.replicates,
            "runs": [run.run_id for run in self.runs],
            "horizon_steps": self.horizon_steps,
            "yaml": self.yaml,
            "overrides": list(self.overrides),
            "detector": self.detector,
            **({"search": self.search.record()} if self.search else {}),
        }


def load_sweep(path: str | Path, *, overrides: Sequence[str] = ()) -> Sweep:
    """Load a sweep file.

    Args:
        path: the YAML file.
        overrides: `key=value` each.

    Raises:
        BadRequest: with file and line, or the override, of the first fault.
    """
    path = Path(path)
    return sweep_from_text(read_text(path), file=str(path), overrides=overrides)


def sweep_from_text(text: str, *, file: str = "sweep.yaml", overrides: Sequence[str] = ()) -> Sweep:
    """Like `load_sweep`, for a file that is already in hand; `file` names it in errors, and the sweep."""
    data, source = parse(text, file=file)
    data, source = command_line.apply(data, overrides=overrides, source=source)
    data = resolved(data, source=source)
    _check_keys(data, source=source)
    name, question = _name(data, source=source), _question(data, source=source)
    is_search = _is_search(data.get("search"), source=source)
    replicates = _replicates(data.get("replicates", 1), source=source)
    axes = parse_axes(_mapping(data, "axes", source=source), source=source)
    check_overridden_base(axes, source=source)
    base = _base(data, source=source)
    search = read_search(data, base=base, replicates=replicates, source=source) if is_search else None
    runs = () if search else expand(base, axes=axes, replicates=replicates, source=source)
    return Sweep(
        name=name,
        question=question,
        base=base,
        axes={key: values for axis in axes for key, values in axis.columns().items()},
        zipped=tuple(tuple(axis.columns()) for axis in axes if len(axis.fields) > 1),
        replicates=replicates,
        runs=runs,
        yaml=yaml.safe_dump(without_password({"name": name, **data}), sort_keys=False, allow_unicode=True, width=110),
        overrides=tuple(map(hidden, overrides)),
        detector=_detector(data.get("detector"), source=source),
        search=search,
    )


def _check_keys(data: Mapping[str, Any], *, source: Source) -> None:
    for key in data:
        if key not in KEYS:
            below_base = key in RunSpec.model_fields
            hint = f"Did you mean 'base.{key}'?" if below_base else near_miss(key, KEYS)
            way_out = f". {hint}" if hint else ""
            listed = ", ".join(KEYS)
            raise source.fault((key,), f"{key}: got an unknown key; expected one of {listed}{way_out}")


def _mapping(data: Mapping[str, Any], key: str, *, source: Source) -> dict[str, Any]:
    """A top-level mapping; absent and empty are the same."""
    value = data.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise source.expected((key,), got=value, expected="a mapping of keys to values")
    return value


def _name(data: Mapping[str, Any], *, source: Source) -> str:
    name = data.get("name", Path(source.file).stem)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        hint = "" if "name" in data else "Give the sweep a `name:`; the file's is not one"
        raise source.expected(("name",), got=name, expected="a-z, 0-9, _ and -, a letter or digit first", hint=hint)
    return name


def _question(data: Mapping[str, Any], *, source: Source) -> str:
    question = data.get("question", "")
    if not isinstance(question, str):
        raise source.expected(("question",), got=question, expected="a sentence")
    return question


def _detector(name: Any, *, source: Source) -> str | None:
    """A registered detector's name; they are imported where one is named alone."""
    if name is None:
        return None
    from analysis.detectors import DETECTORS

    if not isinstance(name, str) or name not in DETECTORS:
        hint, expected = near_miss(str(name), DETECTORS), f"one of {', '.join(DETECTORS)}"
        raise source.expected(("detector",), got=name, expected=expected, hint=hint)
    return str(name)


def _is_search(search: Any, *, source: Source) -> bool:
    """Whether configs are asked for one after another; a grid lists them all."""
    if search is None:
        return False
    if not isinstance(search, dict) or "name" not in search:
        got = ", ".join(search) if isinstance(search, dict) and search else search
        raise source.expected(("search",), got=got, expected="{name: grid}, or the name of a search and what it needs")
    name = search["name"]
    if not isinstance(name, str) or name not in SEARCHES:
        hint = near_miss(name, SEARCHES)
        expected = f"one of {', '.join(SEARCHES)}"
        raise source.expected(("search", "name"), got=name, expected=expected, hint=hint)
    if name == "grid" and len(search) > 1:
        other = next(key for key in search if key != "name")
        way_out = "a grid varies `axes`, which list their points; brute_force tries every point of a space"
        raise source.fault(("search", other), f"search: got {other} beside grid; expected {{name: grid}}. {way_out}")
    return bool(name != "grid")


def _replicates(value: Any, *, source: Source) -> Replicates:
    """Paired seeds, as their number; or a grid of initialisation seeds × data seeds."""
    whole = f"an integer from 1 to {MOST_RUNS}"
    if not isinstance(value, dict):
        if type(value) is not int or not 1 <= value <= MOST_RUNS:
            raise source.expected(("replicates",), got=value, expected=f"{whole}, or {{init: a, data: b}}")
        return value
    if not value or set(value) - {"init", "data"}:
        got = ", ".join(map(str, value)) or "no keys"
        expected = "the keys init and data, or one integer"
        raise source.fault(("replicates",), f"replicates: got {got}; expected {expected}")
    for key, n in value.items():
        if type(n) is not int or not 1 <= n <= MOST_RUNS:
            raise source.expected(("replicates", key), got=n, expected=whole)
    return {"init": value.get("init", 1), "data": value.get("data", 1)}


def _base(data: Mapping[str, Any], *, source: Source) -> dict[str, Any]:
    """The shared part of every run, with the file's own `stop` and `log` in it."""
    if not isinstance(data.get("base"), dict):
        expected = "a mapping that describes a run: task, model, optim, budget"
        raise source.expected(("base",), got=data.get("base"), expected=expected)
    base = dict(data["base"])
    for key in OF_THE_RUN:
        if key in data and key in base:
            raise source.fault(("base", key), f"base.{key}: given twice; the sweep's own `{key}` sets it")
        if key in data:
            base[key] = _mapping(data, key, source=source)
    return base
