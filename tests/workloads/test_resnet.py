"""The residual network: torchvision's sizes, torch's own arithmetic, and the engine's promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_runs import alone, assert_same, run, train
from torch import Tensor
from torch.nn import functional as f

from workloads.cohort import Cohort
from workloads.errors import SpecError
from workloads.models import ResNet
from workloads.rows import NO_DECAY, Layout
from workloads.spec import RunSpec
from workloads.tasks.task import Shapes

SMALL: dict[str, Any] = {"task": {"name": "mosaic"}, "model": {"name": "resnet", "depth": 9, "width": 4},
                         "optim": {"lr": 1e-3, "weight_decay": 0.05}, "budget": {"steps": 12, "batch": 6},
                         "log": {"measures_every_steps": 5}}  # fmt: skip


@pytest.mark.parametrize(("depth", "weights"), [(18, 11_689_512), (34, 21_797_672)])
def test_networks_have_the_weights_that_torchvision_publishes(depth, weights):
    """Of its `resnet18` and `resnet34`, for 1,000 classes and three channels."""
    shapes = Shapes(positions=224**2, features=3, classes=1000, picture=(224, 224))
    layout = Layout(ResNet(depth=depth).build(shapes))
    assert layout.parameters == weights
    spared = {place.name.rpartition(".")[2] for place in layout.places if place.group == NO_DECAY}
    assert spared == {"gain", "shift", "bias"}


def plain(weights: dict[str, Tensor], x: Tensor, *, blocks: tuple[int, ...]) -> Tensor:
    """Logits once more, from torch's own convolutions and batch norms, for one run `(B, C, H, W)`."""

    def normed(h: Tensor, name: str) -> Tensor:
        return f.batch_norm(h, None, None, weights[f"{name}.gain"], weights[f"{name}.shift"], training=True)

    h = f.relu(normed(f.conv2d(x, weights["stem.kernel"], stride=2, padding=3), "norm"))
    h, i = f.max_pool2d(h, 3, stride=2, padding=1), 0
    for stage, n in enumerate(blocks):
        for block in range(n):
            name, stride = f"blocks.{i}", 2 if stage and not block else 1
            branch = f.relu(
                normed(f.conv2d(h, weights[f"{name}.first.kernel"], stride=stride, padding=1), f"{name}.norm1")
            )
            branch = normed(f.conv2d(branch, weights[f"{name}.second.kernel"], padding=1), f"{name}.norm2")
            if f"{name}.beside.kernel" in weights:
                h = normed(f.conv2d(h, weights[f"{name}.beside.kernel"], stride=stride), f"{name}.norm3")
            h, i = f.relu(h + branch), i + 1
    return h.mean((2, 3)) @ weights["head.weight"] + weights["head.bias"]


@pytest.mark.parametrize(("depth", "blocks", "cell"), [(9, (1, 1, 1, 1), 8), (18, (2, 2, 2, 2), 17)])
def test_answers_and_gradients_equal_those_of_torchs_own_layers(depth, blocks, cell):
    spec = run(0, {"model.depth": depth, "task.cell": cell, "budget": {"steps": 1, "batch": 12}}, base=SMALL)
    cohort = Cohort([spec], width=1)
    lanes = cohort.lanes
    first = {place.name: place.view(lanes.rows)[0].clone().requires_grad_() for place in lanes.layout.places}
    lanes.draw(0, spec, {}, step=0)
    batch = {name: values[0] for name, values in lanes.batch().items()}
    [outcome] = cohort.advance()
    images = batch["x"].view(12, 2 * cell, 2 * cell, 3).movedim(-1, 1)
    loss = f.cross_entropy(plain(first, images, blocks=blocks), batch["y"], label_smoothing=0.1)
    assert outcome.metrics["loss"][0] == pytest.approx(loss.item(), rel=1e-4)
    wanted = torch.autograd.grad(loss, list(first.values()))
    for place, theirs in zip(lanes.layout.places, wanted, strict=True):
        mine = place.view(lanes.grads)[0]
        torch.testing.assert_close(mine, theirs, rtol=1e-2, atol=1e-4 * theirs.abs().max().item() + 1e-6)


def test_first_kernels_follow_the_fan_out():
    spec = run(0, {"model.width": 64}, base=SMALL)
    layout = Layout(spec.model.build(spec.task.shapes()))
    row = layout.initial_row(5, std=1.0, device=torch.device("cpu"))
    first = {place.name: place.view(row[None])[0] for place in layout.places}
    assert first["stem.kernel"].std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)
    assert first["blocks.3.second.kernel"].std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert first["head.weight"].abs().max() <= 512**-0.5


VARIANTS: dict[str, dict[str, Any]] = {
    "nine": {},
    "eighteen": {"model.depth": 18, "model.width": 3, "task.cell": 9},
    "gray_sgd": {"task.channels": 1, "optim": {"name": "sgd", "lr": 0.05, "momentum": 0.9}},
}


def members(name: str) -> list[RunSpec]:
    return [
        run(i, {**VARIANTS[name], "budget.steps": 12 + 5 * i, "task.smoothing": 0.1 * i}, base=SMALL) for i in range(3)
    ]


@pytest.mark.parametrize("name", VARIANTS)
def test_residual_networks_are_bitwise_the_same_alone_and_in_company(name):
    given = members(name)
    wanted, together, refilled = alone(given), train(given), train(given[::-1], width=2)
    assert all(np.isfinite(outcome.metrics["loss"]).all() for outcome in wanted.values())
    assert all(np.isfinite(outcome.measures["held_out_loss"]).all() for outcome in wanted.values())
    assert_same(together, wanted)
    assert_same(refilled, wanted)


def test_a_resnet_is_refused_where_there_is_nothing_to_see():
    with pytest.raises(SpecError, match="resnet reads pictures and answers once an example"):
        run(0, {"task": {"name": "two_step"}}, base=SMALL)
