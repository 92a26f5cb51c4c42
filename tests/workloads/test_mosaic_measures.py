"""What a vision transformer on mosaics shows of its inside, layer by layer and head by head, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_runs import run, train
from torch import Tensor

from workloads.cohort import Cohort, Outcome
from workloads.models.vit import GRADIENTS, SENSITIVITIES
from workloads.rows import Layout
from workloads.seen import Seen
from workloads.spec import RunSpec
from workloads.streams import generator
from workloads.tasks.mosaic_draws import INDICATOR
from workloads.tasks.regions import quadrants
from workloads.tasks.task import composed

CPU = torch.device("cpu")
TINY = {"name": "vit", "width": 16, "layers": 2, "heads": 2, "patch": 4, "apart": "heads"}
ONE_STEP = {
    "task": {"name": "mosaic"},
    "model": TINY,
    "budget": {"steps": 1, "batch": 8},
    "log.measures_every_steps": 1,
}


def first_measures(**changes: object) -> tuple[RunSpec, dict[str, float], Outcome]:
    spec = run(0, {**ONE_STEP, **changes})
    [outcome] = train([spec]).values()
    return spec, {name: float(values[0]) for name, values in outcome.measures.items()}, outcome


def data_of(spec: RunSpec) -> dict[str, Tensor]:
    drawn = spec.task.sample({}, generator(100, "batches", 0, device=CPU), steps=16, batch=spec.budget.batch)
    return composed(spec.task, {name: values[:1] for name, values in drawn.items()})


def by_hand(spec: RunSpec, batch: dict[str, Tensor]) -> Tensor:
    """`(layers, 3, B, H, T)`: one head of one layer after the other, from its own definition."""
    model = spec.model.build(spec.task.shapes())
    layout = Layout(model)
    layout.bind(layout.initial_row(0, std=spec.model.init_std, device=CPU)[None], trained=False)
    inputs: list[Tensor] = []
    for block in model.blocks:
        block.norm1.register_forward_hook(lambda _, given, out: inputs.append(out))
    c = torch.tensor([8**-0.5])
    with torch.no_grad():
        model(batch["x"], multiplier=c)
    found = []
    for block, read in zip(model.blocks, inputs, strict=True):
        thirds = (read[0].transpose(0, 1) @ block.attention.qkv[0]).unflatten(-1, (3, 2, 8))  # (B, T, 3, H, d)
        layer = torch.zeros(3, len(thirds), 2, thirds.shape[1])
        for example in range(len(thirds)):
            for head in range(2):
                q, k, v = (thirds[example, :, i, head].clone().requires_grad_() for i in range(3))
                z = torch.softmax(c * (q @ k.T), dim=1) @ v
                for i, gradient in enumerate(torch.autograd.grad(z.sum(), (q, k, v))):
                    layer[i, example, head] = gradient.abs().mean(1)
        found.append(layer)
    return torch.stack(found)


@pytest.mark.parametrize("rule", ["same_class", "no_position"])
def test_sensitivities_are_those_of_one_head_written_out(rule):
    spec, found, _ = first_measures(**{"task.rule": rule})
    batch = data_of(spec)
    each = by_hand(spec, batch)
    cells = each[..., 1:].unflatten(-1, (2, 2, 2, 2)).mean((-3, -1)).flatten(-2)  # (layers, 3, B, H, 4)
    is_indicator = (batch["role"][0] == INDICATOR)[None, None, :, None]
    both = is_indicator.expand_as(cells)
    indicators = cells[both].view(2, 3, 8, 2, 2).mean((2, 4))  # (layers, 3, H)
    targets = cells[~both].view(2, 3, 8, 2, 2).mean((2, 4))
    wanted = torch.stack([indicators, targets], dim=2).flatten(1, 2)  # (layers, 6, H)
    for i, name in enumerate(SENSITIVITIES):
        assert found[name] == pytest.approx(wanted[:, i].mean().item(), rel=1e-4)
        for layer in range(2):
            assert found[f"{name}_{layer + 1}"] == pytest.approx(wanted[layer, i].mean().item(), rel=1e-4)
            for head in range(2):
                one = wanted[layer, i, head].item()
                assert found[f"{name}_{layer + 1}_{head + 1}"] == pytest.approx(one, rel=1e-4)
    assert len({round(value, 9) for name, value in found.items() if "sensitivity" in name and name[-1] == "1"}) > 6


def test_a_values_sensitivity_is_the_attention_that_its_token_receives():
    """d(sum of z)/dv has the same number, the column sum of the attention, at each of the head's places."""
    spec = run(0, ONE_STEP)
    batch = data_of(spec)
    model = spec.model.build(spec.task.shapes())
    layout = Layout(model)
    layout.bind(layout.initial_row(0, std=spec.model.init_std, device=CPU)[None], trained=False)
    seen = Seen()
    with torch.no_grad():
        model(batch["x"], multiplier=torch.tensor([8**-0.5]), seen=seen)
    assert seen.sensitivities is not None
    first = seen.sensitivities()[0]
    torch.testing.assert_close(first[2], seen.attention[0].sum(-2))


def test_layers_gradients_are_those_of_the_step_itself():
    cohort = Cohort([run(0, ONE_STEP)], width=1)
    [outcome] = cohort.advance()
    maps = [place.view(cohort.lanes.grads)[0] for place in cohort.lanes.layout.places if place.name.endswith("qkv")]
    for layer, gradient in enumerate(maps):
        thirds = gradient.abs().view(16, 3, 16).mean((0, 2)).tolist()
        found = [float(outcome.measures[f"{name}_{layer + 1}"][0]) for name in GRADIENTS]
        assert found == pytest.approx([sum(thirds) / 3, *thirds], rel=1e-4)


def test_means_alone_are_recorded_unless_asked_and_ids_stay():
    plain = run(0, {**ONE_STEP, "model": {**TINY, "apart": "none"}})
    left_out = run(0, {**ONE_STEP, "model": {name: value for name, value in TINY.items() if name != "apart"}})
    assert plain.run_id == left_out.run_id != run(0, ONE_STEP).run_id
    [outcome] = train([plain]).values()
    assert {*GRADIENTS, *SENSITIVITIES} <= outcome.measures.keys()
    assert not any(name[-1].isdigit() for name in outcome.measures)


def test_recording_more_changes_no_step():
    _, _, apart = first_measures(**{"budget.steps": 6})
    _, _, plain = first_measures(**{"budget.steps": 6, "model": {**TINY, "apart": "none"}})
    np.testing.assert_array_equal(apart.metrics["loss"], plain.metrics["loss"])


def test_where_there_are_no_indicators_there_is_no_number():
    _, found, _ = first_measures(**{"task.rule": "alignment"})
    assert np.isnan(found["query_sensitivity_indicators"])
    assert found["query_sensitivity_targets"] > 0


def test_patches_that_straddle_cells_have_no_region():
    assert quadrants(torch.zeros(2, 10)) is None
    _, found, _ = first_measures(**{"task.cell": 6})  # three patches a side
    assert np.isnan(found["value_sensitivity_targets_2_2"])


def test_held_out_pictures_are_ranked_among_the_best_five():
    _, found, _ = first_measures()
    at = [found[f"held_out_{name}"] for name in ("accuracy", "top2_accuracy", "top5_accuracy")]
    assert at == sorted(at)
    assert at[-1] > at[0]
