"""The online rule against a slow account of it that keeps the whole curve."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_runs import run

from workloads.spec import RunSpec
from workloads.watch import Verdict, Watch, end_steps

CPU = torch.device("cpu")


def slow_verdict(losses: list[float], spec: RunSpec) -> Verdict:
    """Each step's smoothed loss is a weighted mean of all losses up to it; an event is the first long enough stay."""
    levels, stop = spec.task.levels(), spec.stop
    threshold = levels.loss_floor + stop.level * (levels.loss_plateau - levels.loss_floor)
    diverged = next((t for t, loss in enumerate(losses) if not loss <= stop.diverged_above), None)
    below = []
    for t in range(len(losses)):
        weights = 0.5 ** (np.arange(t, -1, -1) / stop.half_life_steps)
        below.append(bool(np.sum(weights * losses[: t + 1]) / weights.sum() <= threshold))
    n = stop.sustained_steps
    event = next((t for t in range(len(losses) - n + 1) if all(below[t : t + n])), None)
    return Verdict(event, diverged)


def watched(curves: list[list[float]], specs: list[RunSpec]) -> list[Verdict]:
    watch = Watch(len(specs), CPU)
    for slot, spec in enumerate(specs):
        watch.set(slot, spec)
    for t, losses in enumerate(zip(*curves, strict=True)):
        watch.update(torch.tensor(losses), torch.full((len(specs),), float(t), dtype=torch.float64))
    return watch.verdicts()


def rule(**stop: float) -> RunSpec:
    return run(0, {"stop": stop, "task.n_targets": 4, "task.n_classes": 4})


# values well apart from the threshold once smoothed: rounding must not decide
losses = st.lists(st.sampled_from([0.0, 0.05, 0.2, 0.9, 1.4, 3.0, 50.0, math.nan, math.inf]), min_size=1, max_size=60)
rules = st.builds(
    rule,
    level=st.sampled_from([0.2371, 0.5113, 0.8337]),
    half_life_steps=st.sampled_from([0.37, 1.3, 8.1]),
    sustained_steps=st.integers(1, 12),
    diverged_above=st.sampled_from([2.0, 1e4]),
)


@given(curve=losses, spec=rules)
def test_online_rule_equals_the_slow_account(curve, spec):
    assert watched([curve], [spec]) == [slow_verdict(curve, spec)]


@given(curve=losses, other=losses, spec=rules, neighbour=rules)
def test_a_slots_verdict_does_not_depend_on_its_neighbour(curve, other, spec, neighbour):
    n = min(len(curve), len(other))
    assert watched([curve[:n], other[:n]], [spec, neighbour])[0] == watched([curve[:n]], [spec])[0]


def test_event_is_the_first_step_of_a_long_enough_stay():
    spec = rule(half_life_steps=0.01, sustained_steps=3)  # as good as no smoothing
    high, low = 1.4, 0.1
    assert watched([[high, low, low, high, low, low, low]], [spec]) == [Verdict(4, None)]
    assert watched([[high, low, low, high, low, low]], [spec]) == [Verdict(None, None)]


def test_a_slot_that_is_set_again_has_forgotten():
    spec = rule(half_life_steps=0.01, sustained_steps=1)
    watch = Watch(1, CPU)
    watch.set(0, spec)
    watch.update(torch.tensor([0.0]), torch.zeros(1, dtype=torch.float64))
    assert watch.verdicts() == [Verdict(0, None)]
    watch.set(0, spec)
    assert watch.verdicts() == [Verdict(None, None)]


@pytest.mark.parametrize(
    ("after", "event", "diverged", "steps"),
    [
        (None, 100, None, 1000),
        (200, None, None, 1000),
        (200, 100, None, 300),
        (0, 100, None, 125),  # as long as it takes to be sure
        (950, 100, None, 1000),
        (200, 100, 150, 151),
        (None, None, 0, 1),
        (200, 100, 400, 300),  # seen after the run's end, on a device that is asked rarely
    ],
)
def test_end_is_the_earliest_of_budget_event_and_divergence(after, event, diverged, steps):
    spec = run(0, {"budget.steps": 1000, "stop": {"after_event_steps": after, "sustained_steps": 25}})
    assert end_steps(spec, Verdict(event, diverged)) == steps
