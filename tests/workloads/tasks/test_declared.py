"""The task of a declared law: its runs follow it, through the real engine, and what it says of itself is exact."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from tests.workloads.small_runs import assert_same, assert_same_in_company, finish, run, train
from workloads.cohort import Cohort
from workloads.errors import SpecError
from workloads.spec import resolve
from workloads.tasks.declared import DIVERGED_AT_STEP, Truth, truth

LAG_STEPS = 8  # the online rule's half-life
BASE: dict[str, Any] = {
    "task": {
        "name": "declared",
        "chance": "expit(2 - 2 * (log10(optim.lr) + 3)**2 - log2(model.attention.temperature)**2)",
        "median_steps": "150 * (optim.lr / 1e-3)**-0.3",
    },
    "model": {"name": "declared"},
    "optim": {"name": "sgd", "lr": 1e-3},
    "budget": {"steps": 400, "batch": 1},
    "stop": {"after_event_steps": 25},
}
LAWS = [{}, {"task.law": "exponential"}, {"task.spread": 0.2, "optim.lr": 4e-3, "model.attention.temperature": 1.5}]


def declared(seed: int = 0, changes: dict[str, Any] | None = None) -> Any:
    return run(seed, changes, base=BASE)


def fates(changes: dict[str, Any], *, runs: int) -> np.ndarray:
    rng = torch.Generator()
    specs = [declared(seed, changes) for seed in range(runs)]
    return np.array([spec.task.world_of(spec, rng)["fate"].tolist() for spec in specs])


@pytest.mark.parametrize("changes", LAWS)
def test_steps_of_events_follow_the_declared_law(changes):
    law, steps = truth(declared(0, changes)), fates(changes, runs=1500)[:, 0]
    ever = steps[np.isfinite(steps)]
    assert stats.binomtest(len(ever), 1500, law.chance).pvalue > 1e-3
    assert stats.kstest(ever, np.vectorize(law.share_by)).pvalue > 1e-3


def test_trained_runs_have_their_events_when_declared():
    specs = [declared(seed) for seed in range(200)]
    outcomes = train(specs, width=50)
    law = truth(specs[0])
    seen = np.array([o.event_step for o in outcomes.values() if o.event_step is not None])
    ci = stats.binomtest(len(seen), len(specs)).proportion_ci(0.999)
    assert ci.low <= law.chance_by(400 - 25 - LAG_STEPS) <= ci.high
    fates_of = {s.run_id: s.task.world_of(s, torch.Generator())["fate"][0].item() for s in specs}
    late = [o.event_step - fates_of[name] for name, o in outcomes.items() if o.event_step is not None]
    assert min(late) > LAG_STEPS - 5
    assert max(late) < LAG_STEPS + 5
    never = [name for name, o in outcomes.items() if o.event_step is None]
    assert all(fates_of[name] > 400 - 25 - LAG_STEPS - 5 for name in never)


def test_company_and_refills_change_no_bit():
    rates = [{"optim.lr": lr, "optim.name": "adamw", "budget.steps": 150} for lr in (1e-4, 1e-3, 3e-3)]
    assert_same_in_company([declared(seed, changes) for seed, changes in enumerate(rates)])


def test_saved_states_go_on_with_the_same_bits():
    members = [declared(seed, {"optim.name": "adamw", "budget.steps": 150}) for seed in range(3)]
    cohort = Cohort(members, width=3)
    cohort.advance(ticks=70)
    saved = cohort.state()
    assert_same(finish(Cohort(members, width=2, saved=saved.get)), train(members))


def test_configs_that_share_seeds_have_independent_luck():
    one, other = (fates({"optim.lr": lr, "task.median_steps": "100"}, runs=400)[:, 0] for lr in (1e-3, 1.001e-3))
    both = np.isfinite(one) & np.isfinite(other)
    assert abs(stats.spearmanr(one[both], other[both]).statistic) < 0.2
    assert not np.array_equal(np.isfinite(one), np.isfinite(other))


def test_each_seed_has_luck_of_its_own():
    assert len(np.unique(fates({"task.chance": "1"}, runs=50)[:, 0])) == 50
    changed = declared(0).model_copy(update={"seed": declared(0).seed.model_copy(update={"init": 77})})
    fate = declared(0).task.world_of(declared(0), torch.Generator())["fate"]
    assert not torch.equal(fate, changed.task.world_of(changed, torch.Generator())["fate"])


def test_luck_heeds_neither_budget_nor_stop_rule():
    short, long = declared(3), declared(3, {"budget.steps": 900, "stop.after_event_steps": None})
    fate = [spec.task.world_of(spec, torch.Generator())["fate"] for spec in (short, long)]
    assert torch.equal(*fate)


def test_diverging_runs_end_where_declared():
    specs = [declared(seed, {"task.diverges": "0.5", "task.chance": "1", "budget.steps": 60}) for seed in range(60)]
    outcomes = train(specs, width=20).values()
    lost = [o for o in outcomes if o.status == "diverged"]
    assert stats.binomtest(len(lost), 60, 0.5).pvalue > 1e-3
    assert {o.steps for o in lost} == {DIVERGED_AT_STEP + 1}
    assert truth(specs[0]).chance == pytest.approx(0.5)
    steps = fates({"task.diverges": "0.5", "task.chance": "1"}, runs=60)
    assert np.isfinite(steps[:, 0]).all()  # of those that do not diverge, all have their event


def test_levels_are_those_of_the_curve():
    spec = declared(0, {"task.chance": "1", "task.median_steps": "150", "stop.after_event_steps": 200})
    [outcome] = train([spec]).values()
    fate = spec.task.world_of(spec, torch.Generator())["fate"][0].item()
    loss, levels = outcome.metrics["loss"], spec.task.levels()
    assert loss[: int(fate) - 30].mean() == pytest.approx(levels.loss_plateau, rel=0.05)
    assert loss[int(fate) + 30 :].mean() == pytest.approx(levels.loss_floor, rel=0.05)
    assert outcome.metrics["accuracy"][[0, -1]] == pytest.approx(
        [levels.accuracy_plateau, levels.accuracy_ceiling], abs=1e-3
    )


@pytest.mark.parametrize("law", ["lognormal", "exponential"])
def test_restricted_means_equal_an_integral(law):
    declaration = Truth(chance=0.7, diverges=0.0, median_steps=120.0, law=law, spread=0.5)
    for step in (30.0, 100.0, 400.0):
        area, _ = integrate.quad(lambda t: 1 - declaration.chance_by(t), 0, step, points=[60.0], limit=200)
        assert declaration.rmst(step) == pytest.approx(area, rel=1e-6)


@pytest.mark.parametrize("law", ["lognormal", "exponential"])
def test_quantiles_undo_probabilities(law):
    declaration = Truth(chance=0.7, diverges=0.0, median_steps=120.0, law=law, spread=0.5)
    assert declaration.chance_by(120.0) == pytest.approx(0.35)
    for share in (0.01, 0.3, 0.5, 0.69):
        assert declaration.chance_by(declaration.quantile(share)) == pytest.approx(share)
    assert math.isinf(declaration.quantile(0.7))
    assert declaration.median == declaration.quantile(0.5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task.chance": "foo(3)"}, "got the function 'foo'; expected one of abs"),
        ({"task.chance": "import os"}, "no arithmetic"),
        ({"task.chance": "().__class__"}, "no field"),
        ({"task.chance": "[1][0]"}, "expected numbers, fields"),
        ({"task.chance": "optim.rate"}, "optim.rate is no field of the run"),
        ({"task.chance": "optim.name"}, "optim.name is no number of the run"),
        ({"task.chance": "2"}, "to lie in [0, 1]; it is 2 here"),
        ({"task.median_steps": "0"}, "to lie in (0, inf)"),
        ({"task.median_steps": "1 / (optim.lr - 1e-3)"}, "has no value"),
        ({"task.chance": "(0 - 1)**0.5"}, "to have a value for every run"),
        ({"task.chance": "10**9**9"}, "has no value"),
        ({"model.name": "mlp"}, "mlp reads floats"),
    ],
)
def test_bad_declarations_are_refused_in_a_line(changes, said):
    with pytest.raises(SpecError) as caught:
        declared(0, changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_model_suits_no_other_task():
    with pytest.raises(SpecError, match="declared reads settings"):
        resolve({**BASE, "task": {"name": "two_step"}})
