"""Runs small enough to train by the hundred, and how two trainings of one run are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from workloads.cohort import Cohort, Outcome
from workloads.spec import RunSpec, resolve

BASE: dict[str, Any] = {
    "task": {"name": "two_step", "n_targets": 2, "n_classes": 2, "features": 16, "noise": 0.1},
    "model": {"width": 16, "heads": 2, "layers": 1, "mlp_ratio": 2.0, "init_std": 0.2},
    "optim": {"name": "adamw", "lr": 3e-3},
    "budget": {"steps": 60, "batch": 16},
    "log": {"measures_every_steps": 7},
}
EVENTFUL = {"optim.lr": 5e-3, "budget.steps": 300}  # the moment comes within 150 steps
QUICKSTART = {
    "task": {"name": "two_step", "n_targets": 4, "n_classes": 4, "features": 32, "noise": 0.5},
    "model": {"width": 32, "layers": 2, "heads": 4},
    "optim": {"name": "adamw", "lr": 1e-3, "schedule": {"name": "constant", "warmup_steps": 50}},
    "budget": {"steps": 48, "batch": 64},
    "log": {"measures_every_steps": 25},
}


def run(seed: int = 0, changes: Mapping[str, Any] | None = None, *, base: Mapping[str, Any] | None = None) -> RunSpec:
    """A small run: `BASE` with dotted changes, both seeds set."""
    data = deepcopy(dict(BASE if base is None else base))
    data["seed"] = {"init": seed, "data": 100 + seed}
    for path, value in (changes or {}).items():
        *above, last = path.split(".")
        group = data
        for part in above:
            group = group.setdefault(part, {})
        group[last] = deepcopy(value)
    return resolve(data)


def runs(n: int, changes: Mapping[str, Any] | None = None, **kwargs: Any) -> list[RunSpec]:
    return [run(seed, changes, **kwargs) for seed in range(n)]


def staggered(given: Sequence[RunSpec], *, by_steps: int = 7) -> list[RunSpec]:
    """The same runs with other rates and lengths, so that slots are soon at different steps."""
    found = []
    for i, spec in enumerate(given):
        field = "lr" if "lr" in type(spec.optim).model_fields else "lr_z"
        optim = spec.optim.model_copy(update={field: getattr(spec.optim, field) * (1 + i)})
        budget = spec.budget.model_copy(update={"steps": spec.budget.steps + by_steps * i})
        found.append(spec.model_copy(update={"optim": optim, "budget": budget}))
    return found


Trained = dict[str, Outcome]
Arrays = dict[str, np.ndarray]


def train(members: Sequence[RunSpec], *, width: int | None = None, ticks: int | None = None, **kwargs: Any) -> Trained:
    """Every member's outcome by run_id."""
    return finish(Cohort(members, width=width or len(members), **kwargs), ticks=ticks)


def finish(cohort: Cohort, *, ticks: int | None = None) -> Trained:
    """Train a cohort to its end."""
    outcomes: Trained = {}
    while cohort.running:
        outcomes |= {outcome.spec.run_id: outcome for outcome in cohort.advance(ticks=ticks)}
    return outcomes


def alone(members: Sequence[RunSpec]) -> Trained:
    """Every member trained in a cohort of its own."""
    return {run_id: outcome for spec in members for run_id, outcome in train([spec]).items()}


def follow(cohort: Cohort, *, step: int) -> tuple[Trained, dict[str, Arrays]]:
    """Train to the end; outcomes, and weights and optimiser state of every member before that step of its own."""
    outcomes: Trained = {}
    found: dict[str, Arrays] = {}
    while cohort.running:
        if any(slot is not None and slot.step == step for slot in cohort.slots):
            for run_id, arrays in cohort.state().items():
                if arrays["step"] == step:
                    found[run_id] = {key: arrays[key] for key in arrays if key == "row" or key.startswith("optim.")}
        outcomes |= {outcome.spec.run_id: outcome for outcome in cohort.advance(ticks=1)}
    return outcomes, found


def assert_same(left: Mapping[str, Outcome], right: Mapping[str, Outcome]) -> None:
    """The same runs, ended alike, with the same bits in every metric and measure."""
    assert left.keys() == right.keys()
    for run_id, a in left.items():
        b = right[run_id]
        assert (a.status, a.reason, a.steps, a.event_step) == (b.status, b.reason, b.steps, b.event_step)
        for name, mine, other in (("metrics", a.metrics, b.metrics), ("measures", a.measures, b.measures)):
            assert_same_arrays(mine, other, what=f"{name} of run {run_id[:8]}")
        np.testing.assert_array_equal(a.measured_steps, b.measured_steps)


def assert_same_arrays(left: Arrays, right: Arrays, *, what: str = "arrays") -> None:
    """Bit for bit; NaN equals itself."""
    assert left.keys() == right.keys(), what
    for name, values in left.items():
        assert values.dtype == right[name].dtype, f"{what}: {name}"
        assert np.array_equal(values, right[name], equal_nan=True), f"{what}: {name} differs"


def assert_same_in_company(members: Sequence[RunSpec]) -> Trained:
    """Each member alone, all together, and in two slots that are refilled: the same bits; gives the outcomes."""
    wanted = alone(members)
    assert_same(train(members), wanted)
    assert_same(train(members[::-1], width=2), wanted)
    return wanted
