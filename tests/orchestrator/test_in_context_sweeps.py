"""The shipped sweeps of what models learn from the example itself load, and ask what they say."""

from __future__ import annotations

import pytest

from orchestrator.shipped import FOLDER
from orchestrator.sweep import load_sweep

TASKS = ("in_context_classification", "in_context_regression", "markov_chain", "masked_language")


@pytest.mark.parametrize("task", TASKS)
def test_a_shipped_sweep_has_a_treatment_of_the_softmax(task):
    sweep = load_sweep(FOLDER / f"{task}_small.yaml")
    assert {"softmax", "normsoftmax"} <= {run.model.attention.name for run in sweep.runs}


def test_the_papers_chains_differ_from_the_small_ones_by_their_own_flags():
    """Edelman et al. 2024: 100 symbols, rate 5e-4, batch 64, 2,000 steps; width 16, two layers of one head."""
    flags = ["base.task.length=100", "base.budget.steps=2000"]
    for run in load_sweep(FOLDER / "markov_chain_small.yaml", overrides=flags).runs:
        assert (run.task.symbols, run.task.length) == (2, 100)
        assert (run.model.width, run.model.layers, run.model.heads, run.model.has_mlp) == (16, 2, 1, False)
        assert (run.model.positions, run.optim.weight_decay, run.optim.clip_norm) == ("relative", 0.1, 1.0)
        assert (run.optim.lr, run.optim.beta1, run.optim.beta2) == (5e-4, 0.9, 0.95)
        assert (run.budget.steps, run.budget.batch) == (2000, 64)


def test_regression_at_the_papers_size_comes_with_its_curriculum_and_without():
    """Garg et al. 2022: 20 numbers, 41 points, 12 layers, 8 heads, width 256, Adam 1e-4, batch 64."""
    runs = load_sweep(FOLDER / "in_context_regression.yaml").runs
    for run in runs:
        assert (run.task.dim, run.task.points, run.budget.batch, run.optim.lr) == (20, 41, 64, 1e-4)
        assert (run.model.layers, run.model.heads, run.model.width, run.model.causal) == (12, 8, 256, True)
    assert {run.task.curriculum_steps for run in runs} == {0, 2000}
    assert {run.model.attention.name for run in runs} == {"softmax", "normsoftmax", "heat"}


def test_the_small_curriculum_is_over_well_before_the_budget():
    runs = load_sweep(FOLDER / "in_context_curriculum_small.yaml").runs
    assert {run.task.curriculum_steps for run in runs} == {0, 100, 300}
    for run in runs:
        assert (run.task.first_dim, run.task.first_points) == (2, 5)
        lessons = run.task.dim - run.task.first_dim
        assert run.task.first_points + 2 * lessons == run.task.points
        assert lessons * run.task.curriculum_steps <= run.budget.steps / 2
