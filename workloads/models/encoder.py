"""The layers of the `transformer` model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.layers import LayerNorm, Linear, SelfAttention, Vectors
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.transformer import Transformer


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, spec: Transformer):
        super().__init__()
        hidden = round(spec.mlp_ratio * spec.width)
        self.norm1 = LayerNorm(spec.width, eps=spec.norm_eps)
        self.attention = SelfAttention(
            spec.width, spec.heads, statistic=spec.attention.statistic, qkv_bias=spec.qkv_bias
        )
        self.norm2 = LayerNorm(spec.width, eps=spec.norm_eps)
        self.up = Linear(spec.width, hidden)
        self.down = Linear(hidden, spec.width)
        self.activate = F.gelu if spec.activation == "gelu" else F.relu

    def forward(
        self, x: Tensor, multiplier: Tensor, *, queries: int | None = None, maps: list[Tensor] | None = None
    ) -> Tensor:
        """Residual stream (…, T, B, D) in; out, at the first `queries` positions alone if given."""
        mixed = self.attention(self.norm1(x), multiplier, queries=queries, maps=maps)
        x = (x if queries is None else x[..., :queries, :, :]) + mixed
        return x + self.down(self.activate(self.up(self.norm2(x))))


class Encoder(nn.Module):
    """Features in, class logits out."""

    def __init__(self, spec: Transformer, shapes: Shapes):
        super().__init__()
        positions = shapes.positions + 1  # the read-out token comes first
        self.embed = Linear(shapes.features, spec.width)
        self.read_out = Vectors(1, spec.width)
        self.positions = Vectors(positions, spec.width) if spec.positions == "learned" else None
        self.waves = sinusoids(positions, spec.width) if spec.positions == "sinusoidal" else None
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.layers))
        self.norm = LayerNorm(spec.width, eps=spec.norm_eps)
        self.head = Linear(spec.width, shapes.classes)

    def forward(self, x: Tensor, *, multiplier: Tensor, maps: list[Tensor] | None = None) -> Tensor:
        """Logits of every example.

        Args:
            x: features (…, B, T, F).
            multiplier: of the attention scores, one a run.
            maps: list that receives each layer's attention weights.
        """
        batch = x.shape[-3]
        h = torch.cat([self.read_out(batch), self.embed(x.transpose(-3, -2))], dim=-3)  # (…, 1+T, B, D)
        if self.positions is not None:
            h = h + self.positions(batch)
        elif self.waves is not None:
            self.waves = self.waves.to(h.device)
            h = h + self.waves[:, None]
        *early, last = self.blocks
        for block in early:
            h = block(h, multiplier, maps=maps)
        h = last(h, multiplier, queries=1, maps=maps)  # nothing reads the other positions
        return self.head(self.norm(h[..., 0, :, :]))


def sinusoids(positions: int, width: int) -> Tensor:
    """Fixed sine and cosine waves `(positions, width)`.

    Source: Vaswani et al. 2017, section 3.5.
    """
    steps = torch.arange(positions, dtype=torch.float64)[:, None]
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10_000.0) / width))
    waves = torch.zeros(positions, width, dtype=torch.float64)
    waves[:, 0::2] = torch.sin(steps * rates)
    waves[:, 1::2] = torch.cos(steps * rates)[:, : width // 2]
    return waves.float()
