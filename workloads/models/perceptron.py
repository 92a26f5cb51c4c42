"""The layers of the `mlp` model."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.layers import Linear
from workloads.seen import Seen
from workloads.streams import generator
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.mlp import Mlp


class FanIn(Linear):
    """A linear layer whose first values are uniform between ±scale/sqrt(inputs)."""

    def __init__(self, d_in: int, d_out: int, *, scale: float):
        super().__init__(d_in, d_out)
        self.bound, self.sizes = scale / math.sqrt(d_in), {"weight": d_in * d_out, "bias": d_out}
        self.inits = dict.fromkeys(self.inits, "own")

    def own_values(self, seed: int, name: str) -> Tensor:
        """A parameter's first values in the run with this initialisation seed; drawn on the CPU."""
        rng = generator(seed, f"init/{name}", device=torch.device("cpu"))
        size = self.sizes[name.rpartition(".")[2]]
        return (torch.rand(size, generator=rng) * 2.0 - 1.0) * self.bound


class Perceptron(nn.Module):
    """All features of an example in; logits, or floats, of its one answer out."""

    def __init__(self, spec: Mlp, shapes: Shapes):
        super().__init__()
        assert shapes.features is not None
        widths = [shapes.positions * shapes.features, *[spec.width] * spec.layers]
        self.hidden = nn.ModuleList(
            FanIn(d_in, d_out, scale=spec.init_scale) for d_in, d_out in itertools.pairwise(widths)
        )
        self.head = FanIn(spec.width, shapes.classes, scale=spec.init_scale)
        self.activate = F.relu if spec.activation == "relu" else F.gelu

    def forward(self, x: Tensor, *, seen: Seen | None = None) -> Tensor:
        """Answers (…, B, classes) to features (…, B, T, F); `seen` receives the first layer's tables."""
        h = x.flatten(-2)
        for layer in self.hidden:
            h = self.activate(layer(h))
        if seen is not None:
            first: Any = self.hidden[0]
            seen.states |= {"first_weights": first.weight, "first_bias": first.bias}
        return self.head(h)
