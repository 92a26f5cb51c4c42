"""No layer lets one member see another, and losses are those of each member alone."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from small_runs import run
from torch import Tensor

from workloads import layers
from workloads.models.encoder import sinusoids
from workloads.rows import Layout
from workloads.scores import accuracy, attention_entropy, cross_entropy
from workloads.spec import RunSpec

K = 4
MODELS = {
    "softmax": {},
    "normsoftmax_var": {"model.attention": {"name": "normsoftmax"}},
    "normsoftmax_std": {"model.attention": {"name": "normsoftmax", "statistic": "std"}},
    "bias_and_relu": {"model.qkv_bias": True, "model.activation": "relu", "model.layers": 2},
    "odd_shape": {"model.width": 15, "model.heads": 3, "task.features": 13, "task.n_classes": 3},
}


def outputs_and_gradients(spec: RunSpec, *, noise_in: int | None = None) -> tuple[Tensor, Tensor]:
    """Logits `(K, B, C)` and gradients `(K, P)`; one member's weights and data are replaced by rubbish if given."""
    layout = Layout(spec.model.build(spec.task.shapes()))
    rows = torch.stack([layout.initial_row(k, std=0.2, device=torch.device("cpu")) for k in range(K)])
    rng = torch.Generator().manual_seed(0)
    shapes = spec.task.shapes()
    x = torch.randn(K, 16, shapes.positions, shapes.features, generator=rng)
    y = torch.randint(shapes.classes, (K, 16), generator=rng)
    c = torch.tensor([0.1, 0.2, 0.3, 0.4])
    if noise_in is not None:
        rows[noise_in], x[noise_in], c[noise_in] = float("nan"), 1e30, float("inf")
    parameters = layout.bind(rows, trained=True)
    logits = layout.model(x, multiplier=c)
    gradients = torch.zeros_like(rows)
    grads = torch.autograd.grad(cross_entropy(logits, y).sum(), parameters)
    torch._foreach_copy_(layout.views(gradients), grads)
    return logits.detach(), gradients


@pytest.mark.parametrize("lanes_up_to", [0, 32])
@pytest.mark.parametrize("name", MODELS)
def test_rubbish_in_one_member_changes_no_bit_of_another(name, lanes_up_to, monkeypatch):
    monkeypatch.setattr(layers, "LANES_UP_TO", lanes_up_to)
    spec = run(0, MODELS[name])
    clean = outputs_and_gradients(spec)
    for j in range(K):
        others = [k for k in range(K) if k != j]
        for before, after in zip(clean, outputs_and_gradients(spec, noise_in=j), strict=True):
            assert torch.equal(before[others], after[others])
            assert not torch.equal(before[j], after[j])


def test_every_parameter_has_a_gradient():
    spec = run(0, {"model.qkv_bias": True, "model.layers": 2})
    layout = Layout(spec.model.build(spec.task.shapes()))
    gradients = outputs_and_gradients(spec)[1]
    assert all(place.view(gradients).abs().sum() > 0.0 for place in layout.places)


def test_losses_and_accuracies_are_each_members_own():
    rng = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(3, 8, 5, generator=rng), torch.randint(5, (3, 8), generator=rng)
    for k in range(3):
        torch.testing.assert_close(cross_entropy(logits, labels)[k], F.cross_entropy(logits[k], labels[k]))
        assert accuracy(logits, labels)[k] == (logits[k].argmax(1) == labels[k]).float().mean()


def test_entropy_of_even_attention_is_the_log_of_its_width():
    even, sharp = torch.full((2, 3, 4, 8), 1 / 8), F.one_hot(torch.zeros(2, 3, 4, dtype=torch.long), 8).float()
    weights = torch.stack([even, sharp])
    assert attention_entropy(weights).tolist() == pytest.approx([math.log(8), 0.0])


def test_sinusoids_follow_their_formula():
    waves = sinusoids(7, 6)
    for t, i in ((0, 0), (0, 1), (3, 2), (5, 3), (6, 5)):
        angle = t / 10_000 ** (2 * (i // 2) / 6)
        assert waves[t, i].item() == pytest.approx(math.cos(angle) if i % 2 else math.sin(angle), abs=1e-6)
    assert sinusoids(4, 5).shape == (4, 5)
