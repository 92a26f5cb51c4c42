"""The space of a search: which fields vary, over what, and how a choice of values becomes a run's description.

    space:
      optim.lr: {log_range: [1.0e-4, 1.0e-2]}              # any value between; {…, points: 4} for those of an axis
      model.attention.temperature: {range: [0.25, 4]}      # {…, step: 0.25} for a lattice
      model.attention.name: [softmax, heat]                # one of these
      model.attention.from_temperature: {log_range: [1, 8], when: {model.attention.name: heat}}

Settings that change a run's shape stand first (*outer*), so that several configs of one shape can be asked together;
a setting with `when` comes behind those that it depends on, and is there only where they have the values named.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as a_field
from functools import cached_property
from typing import Any

import numpy as np

from orchestrator.axes import Field, NotAMapping, assign, in_order
from orchestrator.grid import Replicates, seed_offsets
from orchestrator.search.proposal import Proposal
from workloads.errors import SpecError
from workloads.spec import RunSpec, Seeds, resolve

MOST_POINTS = 1_000_000


class Unfit(Exception):
    """Values that make no run; the text says which field is at fault, and `path` is that field."""

    def __init__(self, path: Field, message: str):
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One field of the space.

    Attributes:
        field: dotted.
        kind: `float`, `int` or `choice`.
        low, high: ends of a range, included.
        is_log: equal ratios are equally likely.
        step: of the lattice from `low`; None where any value may come.
        choices: of a choice; mappings among them stand for whole branches.
        when: field -> values; the setting is there only where all of these hold.
        is_outer: it changes a run's shape.
    """

    field: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    is_log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()
    when: Mapping[str, tuple[Any, ...]] = a_field(default_factory=dict)
    is_outer: bool = False

    @property
    def path(self) -> Field:
        """The field, key by key."""
        return tuple(self.field.split("."))

    @property
    def is_finite(self) -> bool:
        """It has a list of values."""
        return self.kind != "float" or self.step is not None

    @cached_property
    def values(self) -> tuple[Any, ...]:
        """All values of a finite setting."""
        if self.kind == "choice":
            return self.choices
        step = self.step or 1
        n = math.floor((self.high - self.low) / step + 1e-9) + 1
        steps = (self.low + i * step for i in range(n))
        return tuple(steps) if self.kind == "int" else tuple(float(f"{value:.12g}") for value in steps)

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that stand for all: the ends of a range, every choice."""
        return self.choices if self.kind == "choice" else (self.low, self.high)

    def is_active(self, params: Mapping[str, Any]) -> bool:
        """Whether it is there, beside the values so far."""
        return all(other in params and params[other] in values for other, values in self.when.items())

    def holds(self, value: Any) -> bool:
        """Whether it may have that value."""
        if self.kind == "choice":
            return any(_same(value, choice) for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        return not self.is_finite or any(math.isclose(value, other, rel_tol=1e-9) for other in self.values)

    def draw(self, rng: np.random.Generator) -> Any:
        """A value, uniform (in the logarithm, where the range is logarithmic)."""
        if self.is_finite:
            return self.values[rng.integers(len(self.values))]
        if self.is_log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
            return min(self.high, max(self.low, value))
        return float(rng.uniform(self.low, self.high))

    def label(self, value: Any) -> Any:
        """A value as a scalar: mappings and lists as JSON."""
        return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value

    def value(self, label: Any) -> Any:
        """The value behind a label."""
        if self.kind == "int":
            return int(label)
        return next((choice for choice in self.choices if _same(self.label(choice), label)), label)

    def record(self) -> dict[str, Any]:
        """It, ready for JSON."""
        told: dict[str, Any] = {"values": list(self.choices)}
        if self.kind != "choice":
            told = {"log_range" if self.is_log else "range": [self.low, self.high], "kind": self.kind}
            told |= {"step": self.step} if self.step else {}
        return told | ({"when": {key: list(values) for key, values in self.when.items()}} if self.when else {})


def _same(one: Any, other: Any) -> bool:
    """Equal, and neither is a truth value where the other is a number."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


@dataclass(frozen=True, kw_only=True)
class Space:
    """All settings of a search, over a base.

    Attributes:
        base: a run's description, as plain nested data.
        settings: outer ones first, and each behind those that it depends on.
        replicates: n paired seeds, or {"init": a, "data": b} crossed ones.
    """

    base: Mapping[str, Any]
    settings: tuple[Setting, ...]
    replicates: Replicates = 1

    def __getitem__(self, name: str) -> Setting:
        return next(setting for setting in self.settings if setting.field == name)

    @property
    def n_replicates(self) -> int:
        """Runs of each config, where a strategy asks for no more."""
        return len(seed_offsets(self.replicates))

    @property
    def is_finite(self) -> bool:
        """Every setting has a list of values."""
        return all(setting.is_finite for setting in self.settings)

    def active(self, params: Mapping[str, Any]) -> list[Setting]:
        """The settings that are there, for values that may be incomplete."""
        return [setting for setting in self.settings if setting.is_active(params)]

    def outer(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Those of some values that decide a run's shape."""
        return {name: value for name, value in params.items() if self[name].is_outer}

    def points(self) -> Iterator[dict[str, Any]]:
        """Every point of a finite space, the first setting slowest."""
        seen = set()
        for values in itertools.product(*(setting.values for setting in self.settings)):
            offered = dict(zip((setting.field for setting in self.settings), values, strict=True))
            params: dict[str, Any] = {}
            for setting in self.settings:
                if setting.is_active(params):
                    params[setting.field] = offered[setting.field]
            key = self.key(params)
            if key not in seen:
                seen.add(key)
                yield params

    @cached_property
    def size(self) -> int | None:
        """How many points there are; None where a range is continuous."""
        if not self.is_finite:
            return None
        whole = math.prod(len(setting.values) for setting in self.settings)
        return whole if not any(setting.when for setting in self.settings) else sum(1 for _ in self.points())

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """A point at random."""
        params: dict[str, Any] = {}
        for setting in self.settings:
            if setting.is_active(params):
                params[setting.field] = setting.draw(rng)
        return params

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Whether the values are a whole point of this space."""
        active = self.active(params)
        return {one.field for one in active} == set(params) and all(one.holds(params[one.field]) for one in active)

    def key(self, params: Mapping[str, Any]) -> str:
        """What two equal points have in common."""
        return json.dumps(params, sort_keys=True)

    def config(self, params: Mapping[str, Any]) -> RunSpec:
        """The run that the values make of the base.

        Raises:
            Unfit: they make none.
        """
        data: dict[str, Any] = dict(self.base)
        try:
            for path, value in in_order([(tuple(name.split(".")), value) for name, value in params.items()]):
                data = assign(data, path, value)
            return resolve(data)
        except NotAMapping as error:
            raise Unfit(error.path, str(error)) from None
        except SpecError as error:
            # a misspelt key also leaves one missing, but is the better news
            first, *others = sorted(error.problems, key=lambda problem: problem.got != "an unknown key")
            more = f" (and {len(others)} more)" if others else ""
            raise Unfit(first.path, f"{first}{more}") from None

    def runs(self, proposal: Proposal) -> tuple[RunSpec, ...]:
        """The runs that a proposal asks for, in the order of its replicates.

        Raises:
            Unfit: its values make none.
        """
        config = self.config(proposal.params)
        _ = config.shape_key  # cached for the copies, which share it
        return tuple(self._replicate(config, number) for number in proposal.replicates)

    def _replicate(self, config: RunSpec, number: int) -> RunSpec:
        init, data = (number, number) if isinstance(self.replicates, int) else seed_offsets(self.replicates)[number]
        return config.model_copy(update={"seed": Seeds(init=config.seed.init + init, data=config.seed.data + data)})

    def record(self) -> dict[str, Any]:
        """The settings, ready for JSON."""
        return {setting.field: setting.record() for setting in self.settings}
