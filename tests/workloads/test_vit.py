"""The vision transformer: the paper's sizes and rules, torch's own arithmetic, and what the treatments do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import run, train
from torch import Tensor

from workloads.attention import Heat
from workloads.cohort import Cohort
from workloads.errors import SpecError
from workloads.functions import Evened
from workloads.layers import SelfAttention
from workloads.optimisers import Cosine
from workloads.rows import NO_DECAY, Layout
from workloads.spec import RunSpec
from workloads.streams import generator
from workloads.update import RowOptimiser, columns_of

CPU = torch.device("cpu")
TINY = {"name": "vit", "width": 16, "layers": 2, "heads": 2, "patch": 4}


def paper_spec(**changes: Any) -> RunSpec:
    return run(0, {"task": {"name": "mosaic", "cell": 28}, "model": {"name": "vit"}, **changes})


def test_the_papers_vit_has_3750666_weights():
    spec = paper_spec()
    assert Layout(spec.model.build(spec.task.shapes())).parameters == 3_750_666


def test_first_weights_follow_the_papers_rules():
    spec = paper_spec()
    layout = Layout(spec.model.build(spec.task.shapes()))
    row = layout.initial_row(3, std=0.02, device=CPU)
    first = {place.name: place.view(row[None])[0] for place in layout.places}
    bound = 48**-0.5  # a convolution over 4·4·3 values starts uniform between ± 1/sqrt(48)
    for name in ("embed.weight", "embed.bias"):
        assert first[name].abs().max() <= bound
        assert first[name].std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    for name in ("blocks.3.attention.qkv", "blocks.0.up.weight", "positions.table", "read_out.table", "head.weight"):
        assert first[name].std().item() == pytest.approx(0.02, rel=0.1)
    assert all(
        (values == 0).all()
        for name, values in first.items()
        if name.endswith(("bias", "shift")) and "embed" not in name
    )
    assert all((values == 1).all() for name, values in first.items() if name.endswith("gain"))


def test_first_weights_are_cut_off_at_two():
    spec = run(0, {"task": {"name": "mosaic"}, "model": TINY})
    layout = Layout(spec.model.build(spec.task.shapes()))
    row = layout.initial_row(3, std=1.5, device=CPU)
    drawn = [place.view(row[None]) for place in layout.places if place.name.endswith(("table", "qkv", "up.weight"))]
    assert 1.9 < max(values.abs().max().item() for values in drawn) <= 2.0


def test_matrices_alone_decay():
    layout = Layout(paper_spec().model.build(paper_spec().task.shapes()))
    spared = {place.name for place in layout.places if place.group == NO_DECAY}
    assert {"positions.table", "read_out.table", "norm.gain", "embed.bias", "blocks.6.down.bias"} <= spared
    assert {place.name.rpartition(".")[2] for place in layout.places if place.name not in spared} == {"weight", "qkv"}
    assert [segment.group for segment in layout.segments] == ["", NO_DECAY]


@pytest.mark.parametrize("optim", ["adamw", "adam", "sgd"])
def test_decay_shrinks_matrices_and_leaves_the_rest_where_gradients_vanish(optim):
    spec = run(0, {"task": {"name": "mosaic"}, "model": TINY, "optim": {"name": optim, "lr": 0.1, "weight_decay": 0.5},
                   "budget": {"steps": 1, "batch": 4}})  # fmt: skip
    cohort = Cohort([spec], width=1)
    before = cohort.lanes.rows.clone()
    cohort.lanes.program = lambda lanes, turns: lanes.grads.zero_()[:, : len(lanes.columns) - 1]
    cohort.advance(ticks=1)
    for place in cohort.lanes.layout.places:
        moved = not torch.equal(place.view(before), place.view(cohort.lanes.rows))
        assert moved == (place.group != NO_DECAY and place.view(before).any().item()), place.name


def test_columns_spare_what_rows_spare():
    """The GPU's update has the CPU's exclusions."""
    spec = run(0, {"task": {"name": "mosaic"}, "model": TINY, "optim": {"lr": 0.1, "weight_decay": 0.5}})
    layout = Layout(spec.model.build(spec.task.shapes()))
    rng = torch.Generator().manual_seed(0)
    rows, grads = torch.randn(2, 1, layout.width, generator=rng).unbind(0)
    by_row, by_column = rows.clone(), rows.clone()
    norms = grads.norm(dim=1)
    RowOptimiser("adamw", rows, layout.segments).step_rows(by_row, grads.clone(), norms, [(0, spec.optim, 0, 10)])
    columns = torch.tensor([columns_of(spec.optim, layout.segments, step=0, budget_steps=10)])
    RowOptimiser("adamw", rows, layout.segments).step_columns(by_column, grads.clone(), norms, columns)
    torch.testing.assert_close(by_row, by_column, rtol=1e-4, atol=1e-5)


def plain_vit(spec: RunSpec, weights: dict[str, Tensor], x: Tensor, branches: Tensor | None) -> Tensor:
    """One run's logits once more, from torch's own convolution and functions: slow, obvious, no layer of the engine."""
    model, f = spec.model, torch.nn.functional
    side = 2 * spec.task.cell
    images = x.view(len(x), side, side, -1).movedim(-1, 1)
    kernel = weights["embed.weight"].view(model.patch, model.patch, -1, model.width).permute(3, 2, 0, 1)
    h = f.conv2d(images, kernel, weights["embed.bias"], stride=model.patch).flatten(2).mT  # (B, patches, D)
    h = torch.cat([weights["read_out.table"].expand(len(x), 1, -1), h], dim=1) + weights["positions.table"]
    ones = torch.ones(len(x), 2 * model.layers)
    for depth in range(model.layers):
        scale = (ones if branches is None else branches)[:, 2 * depth : 2 * depth + 2, None, None]
        w = {name.removeprefix(f"blocks.{depth}."): v for name, v in weights.items() if f"blocks.{depth}." in name}
        normed = f.layer_norm(h, (model.width,), w["norm1.gain"], w["norm1.shift"], eps=1e-6)
        q, k, v = (
            (normed @ third).unflatten(-1, (model.heads, -1)).transpose(1, 2)
            for third in w["attention.qkv"].chunk(3, 1)
        )
        mixed = f.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        h = h + scale[:, 0] * (mixed @ w["attention.out.weight"] + w["attention.out.bias"])
        normed = f.layer_norm(h, (model.width,), w["norm2.gain"], w["norm2.shift"], eps=1e-6)
        hidden = f.gelu(normed @ w["up.weight"] + w["up.bias"])
        h = h + scale[:, 1] * (hidden @ w["down.weight"] + w["down.bias"])
    read = f.layer_norm(h[:, 0], (model.width,), weights["norm.gain"], weights["norm.shift"], eps=1e-6)
    return read @ weights["head.weight"] + weights["head.bias"]


@pytest.mark.parametrize("depth_rate", [0.0, 0.6])
def test_answers_and_gradients_equal_those_of_a_plain_vision_transformer(depth_rate):
    model = {**TINY, "layers": 3, "stochastic_depth": depth_rate, "init_std": 0.2}
    spec = run(0, {"task": {"name": "mosaic"}, "model": model, "budget": {"steps": 1, "batch": 9}})
    cohort = Cohort([spec], width=1)
    first = {place.name: place.view(cohort.lanes.rows)[0].clone() for place in cohort.lanes.layout.places}
    cohort.lanes.draw(0, spec, {}, step=0)
    batch = {name: values[0] for name, values in cohort.lanes.batch().items()}
    [outcome] = cohort.advance()
    weights = {name: values.requires_grad_() for name, values in first.items()}
    logits = plain_vit(spec, weights, batch["x"], batch.get("branches"))
    loss = torch.nn.functional.cross_entropy(logits, batch["y"], label_smoothing=0.1)
    wanted = torch.autograd.grad(loss, list(weights.values()))
    assert outcome.metrics["loss"][0] == pytest.approx(loss.item(), rel=1e-5)
    found = [place.view(cohort.lanes.grads)[0] for place in cohort.lanes.layout.places]
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6)
    if depth_rate:
        assert (batch["branches"][:, :2] == 1).all()
        assert (batch["branches"][:, 4:] == 0).any()


def test_branches_are_dropped_linearly_more_with_depth_and_keep_their_mean():
    model = paper_spec(**{"model.stochastic_depth": 0.3}).model
    branches = model.draws(generator(0, "model", device=CPU), steps=16, batch=4096)["branches"]
    dropped = (branches == 0).float().mean((0, 1))
    assert dropped.tolist() == pytest.approx(np.repeat(np.linspace(0, 0.3, 7), 2).tolist(), abs=0.01)
    assert branches.mean((0, 1)).tolist() == pytest.approx([1.0] * 14, abs=0.01)


SHOWN = ("held_out_loss", "attention_on_answer", "early_attention_on_targets", "attention_entropy")


def test_measures_drop_no_branches():
    changes = {"task": {"name": "mosaic"}, "budget": {"steps": 1, "batch": 8}, "log.measures_every_steps": 1}
    kept, dropped = (run(0, {**changes, "model": {**TINY, "stochastic_depth": rate}}) for rate in (0.0, 0.9))
    [a], [b] = train([kept]).values(), train([dropped]).values()
    assert {name: a.measures[name] for name in SHOWN} == {name: b.measures[name] for name in SHOWN}
    assert a.metrics["loss"] != b.metrics["loss"]


UNFIT = [
    (
        {"task": {"name": "two_step"}, "model": TINY},
        "vit reads pictures and answers once an example",
    ),
    (
        {"task": {"name": "mosaic", "cell": 9}, "model": TINY},
        "model.patch to divide the pictures' 18 and 18 pixels; got 4",
    ),
]


@pytest.mark.parametrize(("changes", "says"), UNFIT)
def test_a_vit_is_refused_where_there_is_nothing_to_see(changes, says):
    with pytest.raises(SpecError) as caught:
        run(0, changes)
    assert says in str(caught.value)


# -- attention, gradients, schedules ----------------------------------------------------------------------


HEAT = {0: 3.0, 30: 2.725, 60: 2.007, 75: 1.562, 90: 1.118, 120: 0.400, 150: 0.125, 299: 0.125}  # epoch: multiplier


@pytest.mark.parametrize(("epoch", "wanted"), HEAT.items())
def test_heat_treatment_has_the_papers_multipliers(epoch, wanted):
    """300 epochs of 117 steps; the multiplier moves between epochs and not within them."""
    heat = Heat(epoch_steps=117)
    for step in (117 * epoch, 117 * epoch + 116):
        found = heat.multiplier(step=step, budget_steps=300 * 117, head_width=64)
        assert found == pytest.approx(wanted, abs=6e-4)


@pytest.mark.parametrize(("statistic", "spread"), [("var", 2 / 3), ("std", 1.0)])
def test_normsoftmax_divides_by_the_smaller_of_cap_and_spread(statistic, spread):
    """By hand: scores 1, 2, 3 have biased variance 2/3 and unbiased deviation 1; the cap 1/c is 8, or a half."""
    layer = SelfAttention(4, 1, statistic=statistic, qkv_bias=False)
    scores = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 1, 3)
    for c, divisor in ((1 / 8, spread), (2.0, 0.5)):
        found = layer._weights(scores, torch.tensor(c).view(1, 1, 1, 1, 1), keys_axis=4)
        powers = np.exp(np.array([1.0, 2.0, 3.0]) / divisor)
        assert found.flatten().tolist() == pytest.approx((powers / powers.sum()).tolist(), rel=1e-5)


@pytest.mark.parametrize("how", ["mean", "value", "head_value"])
def test_evened_gradients_have_the_wanted_sizes_and_their_own_directions(how):
    heads, width = 2, 6
    rng = torch.Generator().manual_seed(0)
    qkv = torch.randn(3, width, 3 * width, generator=rng, requires_grad=True)
    scales = torch.tensor([10.0, 0.1, 2.0]).repeat_interleave(width) * torch.tensor([1.0, 5.0]).repeat_interleave(
        3
    ).repeat(3)
    given = torch.randn(3, width, 3 * width, generator=rng) * scales
    (found,) = torch.autograd.grad((Evened.apply(qkv, heads, how) * given).sum(), qkv)
    for k in range(3):
        mine, plain = (g[k].view(width, 3, heads, -1) for g in (found, given))
        for part in range(3):
            for head in range(heads):
                value_size = plain[:, 2, head].abs().mean()
                if how == "head_value":
                    assert mine[:, part, head].abs().mean().item() == pytest.approx(value_size.item(), rel=1e-5)
            wanted = plain.abs().mean() if how == "mean" else plain[:, 2].abs().mean()
            if how != "head_value":
                assert mine[:, part].abs().mean().item() == pytest.approx(wanted.item(), rel=1e-5)
                factor = mine[:, part] / plain[:, part]
                torch.testing.assert_close(factor, factor.mean().expand_as(factor))


def test_a_gradient_of_nothing_stays_nothing():
    qkv = torch.randn(1, 4, 12, requires_grad=True)
    (found,) = torch.autograd.grad((Evened.apply(qkv, 2, "mean") * 0.0).sum(), qkv)
    assert (found == 0).all()


def test_cosine_by_epochs_is_the_papers_recipe():
    """lr 5e-4, warm-up over 5 epochs from 1e-6, down to 1e-6 at epoch 300, changed once an epoch."""
    lr, epoch = 5e-4, 117
    schedule = Cosine(warmup_steps=5 * epoch, warmup_from=1e-6 / lr, end_factor=1e-6 / lr, epoch_steps=epoch)
    rates = [lr * schedule.factor(step=step, budget_steps=300 * epoch) for step in (0, 116, 117, 2 * 117, 5 * 117)]
    step = (lr - 1e-6) / 5
    assert rates == pytest.approx([1e-6, 1e-6, 1e-6 + step, 1e-6 + 2 * step, lr])
    late = lr * schedule.factor(step=300 * epoch - 1, budget_steps=300 * epoch)
    assert late == pytest.approx(1e-6 + 0.5 * (lr - 1e-6) * (1 + math.cos(math.pi * 294 / 295)))
