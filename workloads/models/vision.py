"""The layers of the `vit` model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from workloads.layers import Layer, LayerNorm, Linear, Vectors
from workloads.models.encoder import Block, sinusoids
from workloads.models.perceptron import FanIn
from workloads.models.sensitivity import sensitivities
from workloads.rows import NO_DECAY
from workloads.seen import Seen
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.vit import Vit


class VisionEncoder(nn.Module):
    """Pixels in, class logits out."""

    def __init__(self, spec: Vit, shapes: Shapes):
        super().__init__()
        assert shapes.picture is not None
        assert shapes.features is not None
        height, width = shapes.picture
        self.patch, self.grid = spec.patch, (height // spec.patch, width // spec.patch)
        tokens = 1 + self.grid[0] * self.grid[1]
        self.embed = FanIn(spec.patch**2 * shapes.features, spec.width, scale=1.0)  # as torch's convolutions start
        self.read_out = Vectors(1, spec.width)
        self.positions = Vectors(tokens, spec.width) if spec.positions == "learned" else None
        self.waves = sinusoids(tokens, spec.width) if spec.positions == "sinusoidal" else None
        self.blocks = nn.ModuleList(Block(spec, shapes, depth=depth) for depth in range(spec.layers))
        self.norm = LayerNorm(spec.width, eps=spec.norm_eps)
        self.head = Linear(spec.width, shapes.classes)
        _settle(self)

    def forward(
        self, x: Tensor, *, branches: Tensor | None = None, seen: Seen | None = None, **controls: Tensor
    ) -> Tensor:
        """Logits (…, B, classes).

        Args:
            x: pixels in reading order (…, B, height·width, C).
            branches: scale of each block's two branches (…, B, 2·layers); None drops none.
            seen: receives each layer's attention weights, and the normed read-out `final` (…, B, 1, D).
            **controls: what `Vit.controls` lists, one value a run.
        """
        h = self.embed(self._patches(x))  # (…, T, B, D)
        h = torch.cat([self.read_out(h.shape[-2]), h], dim=-3)
        if self.positions is not None:
            h = h + self.positions(h.shape[-2])
        elif self.waves is not None:
            self.waves = self.waves.to(h.device)
            h = h + self.waves[:, None]
        for depth, block in enumerate(self.blocks):
            queries = 1 if depth == len(self.blocks) - 1 else None  # nothing reads the other positions
            scale = None if branches is None or depth == 0 else branches[..., 2 * depth : 2 * depth + 2]
            h = block(h, queries, scale=scale, seen=seen, **controls)
        h = self.norm(h)
        if seen is not None:
            seen.states["final"] = h.transpose(-3, -2)
            seen.again = lambda x: self(x, **controls)
            seen.sensitivities = lambda: sensitivities(self, x, controls)
        return self.head(h)[..., 0, :, :]

    def _patches(self, x: Tensor) -> Tensor:
        """Pixels (…, B, height·width, C) as patches (…, T, B, patch·patch·C), both in reading order."""
        (rows, columns), patch = self.grid, self.patch
        cut = x.unflatten(-2, (rows, patch, columns, patch))  # (…, B, row, y, column, x, C)
        return cut.movedim(-3, -4).flatten(-3).flatten(-3, -2).transpose(-3, -2)


def _settle(model: nn.Module) -> None:
    """First values, and what decays: matrices alone do."""
    for module in model.modules():
        if not isinstance(module, Layer):
            continue
        for name, rule in module.inits.items():
            if rule == "normal":
                module.inits[name] = "truncated"
            if isinstance(module, Vectors) or module.get_parameter(name).dim() == 1:
                module.groups[name] = NO_DECAY
