"""The shipped sweeps of the Eureka-Moments paper: they load, and hold the paper's settings."""

from __future__ import annotations

import pytest

from orchestrator.shipped import FOLDER
from orchestrator.sweep import load_sweep
from workloads.images import EMBEDDED

RUNS = {"fig_em": 6, "treatments": 20, "temperature": 20, "rates": 72, "gradients": 16, "tasks": 28, "sizes": 20}
SMALL = {"mosaic": 96, "gradients": 24, "tasks": 20, "rates": 36, "sizes": 25, "fig_em": 6}
EPOCH = 117  # floor(59,904 / 512) steps


@pytest.mark.parametrize("name", RUNS)
def test_shipped_sweeps_load_with_their_runs(name):
    sweep = load_sweep(FOLDER / f"paper1_{name}.yaml")
    assert len({run.run_id for run in sweep.runs}) == len(sweep.runs) == RUNS[name]


def test_every_shipped_sweep_of_the_paper_is_known_here():
    assert {path.stem.removeprefix("paper1_") for path in FOLDER.glob("paper1_*.yaml")} == {
        *RUNS, *(f"{name}_small" for name in SMALL)
    }  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_runs_have_the_papers_optimisation(name):
    """AdamW 0.9, 0.999, batch 512; warm-up over 5 epochs from 1e-6 and a cosine down to 1e-6, once an epoch."""
    for run in load_sweep(FOLDER / f"paper1_{name}.yaml").runs:
        optim, schedule = run.optim, run.optim.schedule
        assert (optim.name, optim.beta1, optim.beta2, optim.eps, optim.clip_norm) == ("adamw", 0.9, 0.999, 1e-8, None)
        assert (run.budget.batch, run.budget.steps % EPOCH, schedule.epoch_steps) == (512, 0, EPOCH)
        assert (run.task.cell, run.task.smoothing, run.task.colour_noise) == (28, 0.1, 0.05)
        assert run.model.name == "resnet" or (run.model.patch, run.model.stochastic_depth) == (4, 0.1)
        if name != "rates":
            assert (schedule.warmup_steps, optim.weight_decay) == (5 * EPOCH, 0.05)
            assert optim.lr * schedule.end_factor == pytest.approx(1e-6)
            assert optim.lr * schedule.warmup_from == pytest.approx(1e-6)


def test_treatments_have_the_authors_rates():
    found = {
        (run.model.attention.name, getattr(run.model.attention, "statistic", "none"), run.optim.lr)
        for run in load_sweep(FOLDER / "paper1_treatments.yaml").runs
    }
    assert found == {
        ("softmax", "none", 5e-4),
        ("normsoftmax", "var", 1e-5),
        ("normsoftmax", "std", 1e-5),
        ("heat", "none", 1e-4),
        ("heat", "var", 1e-5),
    }


@pytest.mark.parametrize("name", SMALL)
def test_small_sweeps_need_no_data_and_are_small(name):
    runs = load_sweep(FOLDER / f"paper1_{name}_small.yaml").runs
    assert len({run.run_id for run in runs}) == len(runs) == SMALL[name]
    assert {(run.task.indicators, run.task.targets) for run in runs} == {(EMBEDDED, EMBEDDED)}
    assert sum(run.budget.steps for run in runs) <= 300_000
    assert {run.budget.batch for run in runs} == {64}


@pytest.mark.parametrize("name", ["gradients", "rates", "sizes", "fig_em"])
def test_small_twins_vary_what_the_papers_sweeps_vary(name):
    twin, whole = (load_sweep(FOLDER / f"paper1_{name}{suffix}.yaml") for suffix in ("_small", ""))
    assert twin.axes.keys() == whole.axes.keys()


def test_the_small_tasks_are_all_that_digits_alone_can_pose():
    rules = {run.task.rule for run in load_sweep(FOLDER / "paper1_tasks_small.yaml").runs}
    assert rules == {run.task.rule for run in load_sweep(FOLDER / "paper1_tasks.yaml").runs} - {
        "shuffled",
        "no_position",
    }


def test_the_small_sweep_compares_the_treatments():
    runs = load_sweep(FOLDER / "paper1_mosaic_small.yaml").runs
    assert {run.model.attention.name for run in runs} == {"softmax", "normsoftmax", "heat"}
    assert len({run.model.attention.temperature for run in runs if run.model.attention.name == "softmax"}) > 2
