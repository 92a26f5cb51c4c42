"""On a CUDA device: company changes no bit at a fixed width, and the first steps are the CPU's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workloads import capture
from workloads.capacity import known_table, measured_table
from workloads.cohort import Cohort, Outcome
from workloads.rows import Layout
from workloads.spec import RunSpec, resolve
from workloads.streams import generator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
WIDTH = 4
CPU = torch.device("cpu")


def run(seed: int, *, lr: float = 1e-3, steps: int = 300, **model: object) -> RunSpec:
    return resolve(
        {
            "task": {"name": "two_step"},
            "model": {"width": 32, "layers": 2, "heads": 4, **model},
            "optim": {"name": "adamw", "lr": lr},
            "budget": {"steps": steps, "batch": 64},
            "seed": {"init": seed, "data": seed},
            "log": {"measures_every_steps": 25},
        }
    )


def train(members: list[RunSpec], *, device: str = "cuda") -> dict[str, Outcome]:
    cohort, found = Cohort(members, width=WIDTH, device=device), {}
    while cohort.running:
        found |= {outcome.spec.run_id: outcome for outcome in cohort.advance()}
    return found


def assert_same(a: Outcome, b: Outcome) -> None:
    assert (a.status, a.reason, a.steps, a.event_step) == (b.status, b.reason, b.steps, b.event_step)
    for name, values in (a.metrics | a.measures).items():
        np.testing.assert_array_equal(values, (b.metrics | b.measures)[name], err_msg=name)


VARIANTS = [{}, {"attention": {"name": "normsoftmax"}}, {"attention": {"name": "heat"}, "positions": "sinusoidal"}]


@pytest.mark.parametrize("model", VARIANTS)
def test_neighbours_slot_and_refill_change_no_bit_at_a_fixed_width(model):
    watched = run(0, **model)
    first = train([watched, *(run(seed, **model) for seed in (1, 2, 3))])[watched.run_id]
    strangers = [run(4, lr=1e30, **model), run(5, steps=90, **model), run(6, **model), run(7, lr=0.1, **model)]
    late = train([*strangers, watched])[watched.run_id]
    assert first.steps == watched.budget.steps
    assert_same(first, late)


SEEING = [{"name": "vit", "width": 32, "layers": 2, "qkv_gradient": "mean"}, {"name": "resnet", "depth": 9, "width": 8}]


@pytest.mark.parametrize("model", SEEING)
def test_mosaics_are_composed_in_the_graph_and_neighbours_change_no_bit(model):
    """Pixels are looked up on the device, and branches are dropped by draws that came with the block."""
    data = {"task": {"name": "mosaic"}, "model": model, "optim": {"lr": 1e-3, "weight_decay": 0.05},
            "budget": {"steps": 60, "batch": 32}, "log": {"measures_every_steps": 20}}  # fmt: skip
    members = [resolve(data | {"seed": {"init": seed, "data": seed}}) for seed in range(8)]
    first, late = train(members[:WIDTH]), train([*members[WIDTH:], members[0]])
    assert_same(first[members[0].run_id], late[members[0].run_id])
    losses = first[members[0].run_id].metrics["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_kill_and_resume_change_no_bit_at_a_fixed_width():
    members = [run(seed) for seed in range(WIDTH)]
    wanted = train(members)
    killed = Cohort(members, width=WIDTH, device="cuda")
    killed.advance(ticks=77)
    cohort, found = Cohort(members[::-1], width=WIDTH, device="cuda", saved=killed.state().get), {}
    while cohort.running:
        found |= {outcome.spec.run_id: outcome for outcome in cohort.advance()}
    for run_id, outcome in wanted.items():
        assert_same(outcome, found[run_id])


def test_a_cohort_of_the_same_shape_takes_the_graph_over(monkeypatch):
    members = [run(seed, steps=60) for seed in range(WIDTH)]
    wanted = train(members)
    monkeypatch.setattr(capture, "CapturedLanes", None)  # a capture would fail
    for run_id, outcome in train(members).items():
        assert_same(outcome, wanted[run_id])


def test_compiled_lanes_have_the_numbers_of_the_eager_ones():
    members = [run(seed, steps=40) for seed in range(WIDTH)]
    compute = members[0].compute.model_copy(update={"program": "compiled"})
    compiled = [spec.model_copy(update={"compute": compute}) for spec in members]
    eager, found = train(members), train(compiled)
    for spec, other in zip(members, compiled, strict=True):
        mine, theirs = found[other.run_id].metrics, eager[spec.run_id].metrics
        np.testing.assert_allclose(mine["loss"][:10], theirs["loss"][:10], rtol=1e-4)


@pytest.mark.parametrize(("precision", "rtol"), [("tf32", 1e-2), ("bf16", 5e-2)])
def test_lower_precision_is_close_at_first_and_another_run(precision, rtol):
    members = [run(seed, steps=20) for seed in range(WIDTH)]
    compute = members[0].compute.model_copy(update={"precision": precision})
    lower = [spec.model_copy(update={"compute": compute}) for spec in members]
    strict, found = train(members), train(lower)
    for spec, other in zip(members, lower, strict=True):
        assert spec.run_id != other.run_id
        np.testing.assert_allclose(
            found[other.run_id].metrics["loss"][0], strict[spec.run_id].metrics["loss"][0], rtol=rtol
        )


def test_a_users_module_trains_by_vmap():
    model = {"name": "module", "path": "tests.workloads.user_models:Mixer"}
    base = run(0).model_dump(mode="json") | {"model": model, "log": {"measures_every_steps": 0}}
    members = [resolve(base | {"seed": {"init": seed, "data": seed}}) for seed in range(WIDTH)]
    for outcome in train(members).values():
        assert outcome.metrics["loss"][-20:].mean() < outcome.metrics["loss"][:20].mean()


def test_the_capacity_table_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("EUREKA_CACHE", str(tmp_path))
    device = torch.device("cuda")
    assert known_table(run(0), device=device) == []
    rows = measured_table(run(0), device=device)
    assert max(rows, key=lambda row: row.run_steps_per_s).width > 1
    assert known_table(run(1), device=device) == rows


def test_divergence_is_recorded_at_its_own_step():
    wild = run(0, lr=1e30)
    outcome = train([wild, *(run(seed) for seed in (1, 2, 3))])[wild.run_id]
    assert outcome.status == "diverged"
    assert len(outcome.metrics["loss"]) == outcome.steps < 5
    assert not outcome.metrics["loss"][-1] <= wild.stop.diverged_above


@pytest.mark.parametrize("model", VARIANTS)
def test_first_steps_are_those_of_the_cpu_on_the_same_data(model, monkeypatch):
    """The devices' generators differ, so both are handed what the CPU draws."""
    first_row = Layout.initial_row
    monkeypatch.setattr("workloads.lanes.generator", lambda *key, device: generator(*key, device=CPU))
    monkeypatch.setattr(
        Layout, "initial_row", lambda self, seed, *, std, device: first_row(self, seed, std=std, device=CPU)
    )
    members = [run(seed, steps=30, **model) for seed in range(WIDTH)]
    here, there = train(members, device="cpu"), train(members)
    for run_id, outcome in here.items():
        for name in ("loss", "grad_norm"):
            np.testing.assert_allclose(there[run_id].metrics[name][:1], outcome.metrics[name][:1], rtol=1e-5)
            np.testing.assert_allclose(there[run_id].metrics[name], outcome.metrics[name], rtol=1e-2)
