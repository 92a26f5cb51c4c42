"""The shipped sweeps of the follow-up workloads load, and ask what they say."""

from __future__ import annotations

import pytest

from orchestrator.shipped import FOLDER
from orchestrator.sweep import load_sweep

RUNS = {
    "associative_recall_small": 24,
    "birth_small": 12,
    "exemplars_small": 12,
    "histogram_small": 8,
    "in_context_classification_small": 18,
    "in_context_regression_small": 9,
    "markov_chain_small": 32,
    "masked_language_small": 12,
    "modular_addition_small": 9,
    "parity_small": 32,
    "relevant_token_law": 100,
    "permutation_small": 16,
    "relevant_token_small": 18,
    "window_sum": 3,
    "window_family_small": 24,
    "window_sum_small": 18,
}


@pytest.mark.parametrize("name", RUNS)
def test_a_shipped_sweep_has_the_runs_it_says(name):
    sweep = load_sweep(FOLDER / f"{name}.yaml")
    assert len(sweep.runs) == RUNS[name]
    assert len({run.run_id for run in sweep.runs}) == RUNS[name]


def test_the_law_has_a_hundred_settings_and_is_read_where_the_paper_reads_it():
    """A fifth of the first loss: 0.5 to 0.1."""
    sweep = load_sweep(FOLDER / "relevant_token_law.yaml")
    settings = {(run.task.tokens, run.task.dim, run.task.repeats) for run in sweep.runs}
    assert len(settings) == 100
    assert {run.stop.level * run.task.levels().loss_plateau for run in sweep.runs} == {0.1}


def test_window_sum_is_the_papers_setting():
    """Gopalani and Hu 2025: 16 numbers modulo 17, width 256, Adam 1e-4, batch 256, 400 steps."""
    for run in load_sweep(FOLDER / "window_sum.yaml").runs:
        assert (run.task.n, run.task.modulus, run.task.window) == (16, 17, 2)
        assert (run.model.width, run.model.layers, run.model.heads, run.model.init) == (256, 1, 1, "scaled")
        assert (run.optim.name, run.optim.lr, run.budget.batch, run.budget.steps) == ("adam", 1e-4, 256, 400)


def test_birth_trains_the_three_memories_and_the_pairs_or_leaves_out_the_first():
    runs = load_sweep(FOLDER / "birth_small.yaml").runs
    assert {run.trainable.only for run in runs} == {"keys_0 keys_1 out_1 feed", "keys_1 out_1 feed"}
    assert len({run.shape_key for run in runs}) == 1
