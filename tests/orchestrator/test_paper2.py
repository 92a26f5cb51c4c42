"""The sweeps of paper 2: their sizes, levels and forks, and that a small one trains in all its parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.store import Store
from orchestrator.run import run_sweep
from orchestrator.shipped import FOLDER, find_sweep
from orchestrator.sweep import load_sweep

NAMES = sorted(path.stem for path in FOLDER.glob("paper2_*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_sweep_loads_and_says_what_it_asks(name: str):
    sweep = load_sweep(find_sweep(name))
    assert sweep.question.endswith("?")
    assert len({run.run_id for run in sweep.runs}) == len(sweep.runs)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("_small") and "gpt" not in name])
def test_papers_sweeps_have_the_papers_settings(name: str):
    for run in load_sweep(find_sweep(name)).runs:
        assert (run.task.name, run.task.grid, run.task.reach) == ("matrix_completion", 100, 10)
        assert (run.model.name, run.model.heads, run.model.mlp_ratio, run.model.init_std) == ("bert", 8, 4.0, 0.02)
        assert (run.optim.name, run.optim.lr, run.budget.batch, run.stop.after_event_steps) == ("adam", 1e-4, 256, None)
        assert run.compute.precision == "fp32"


def test_gpt_is_the_papers():
    runs = load_sweep(find_sweep("paper2_gpt")).runs
    assert {run.model.attention.name for run in runs} == {"softmax", "linear"}
    for run in runs:
        assert (run.model.width, run.model.layers, run.model.heads, run.model.causal) == (256, 2, 2, True)
        assert run.task.shapes().positions == 98


@pytest.mark.parametrize(
    ("forks", "sources"), [("paper2_forks", "paper2_completion"), ("paper2_forks_small", "paper2_completion_small")]
)
def test_forks_start_from_snapshots_that_their_sources_keep(forks: str, sources: str):
    source = {run.run_id: run for run in load_sweep(find_sweep(sources)).runs}
    for run in load_sweep(find_sweep(forks)).runs:
        start = run.start_from
        assert start is not None
        assert source[start.run].seed.data == run.seed.data
        assert source[start.run].seed.init == run.seed.init - 1000
        kept = source[start.run].log.snapshots.split()
        assert str(start.step) in kept or ("end" in kept and start.step == source[start.run].budget.steps)
        assert run.trainable is not None
        assert run.trainable.only == start.fresh
        assert (run.task, run.model) == (source[start.run].task, source[start.run].model)


SHORT = ("base.compute.program=eager", "base.budget.steps=4", "base.budget.batch=4", "replicates=1")


def test_small_sweeps_and_their_forks_train(tmp_path: Path):
    """A few steps of each; forks start from step 3, where the sweep itself says the end."""
    for name in ("paper2_completion_small", "paper2_gpt_small"):
        sweep = load_sweep(find_sweep(name), overrides=[*SHORT, "log.measures_every_steps=2", "log.snapshots=[3]"])
        run_sweep(sweep, store_path=tmp_path / "store", launcher="inline")
    sources = tmp_path / "sources.yaml"
    sources.write_text(
        load_sweep(
            find_sweep("paper2_completion_small"), overrides=[*SHORT, "log.measures_every_steps=2", "log.snapshots=[3]"]
        ).yaml
    )
    start = f"base.start_from={{sweep: {sources}, step: 3}}"
    forks = load_sweep(find_sweep("paper2_forks_small"), overrides=[*SHORT, start])
    run_sweep(forks, store_path=tmp_path / "store", launcher="inline")
    rows = Store(tmp_path / "store").runs_table(["run_id", "status", "trainable.only"]).to_pylist()
    assert {row["status"] for row in rows} == {"finished"}
    assert len(rows) == 1 + 2 + 5
