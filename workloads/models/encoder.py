"""The layers of the `transformer` model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.layers import LayerNorm, Linear, SelfAttention, Vectors, Words
from workloads.seen import Seen
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.transformer import Transformer
    from workloads.models.vit import Vit


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x), if it has one."""

    def __init__(self, spec: Transformer | Vit, shapes: Shapes, *, depth: int):
        super().__init__()
        self.has_mlp = spec.has_mlp
        self.norm1 = norm_of(spec)
        self.attention = SelfAttention(
            spec.width,
            spec.heads,
            statistic=spec.attention.statistic,
            qkv_bias=spec.qkv_bias,
            causal=spec.causal,
            sources=shapes.sources,
            looks_back=depth == 0 and spec.clamp == "previous_token",
            distances=shapes.positions if spec.positions == "relative" else 0,
            gradient=getattr(spec, "qkv_gradient", "plain"),
        )
        if spec.has_mlp:
            hidden = round(spec.mlp_ratio * spec.width)
            self.norm2 = norm_of(spec)
            self.up = Linear(spec.width, hidden)
            self.down = Linear(hidden, spec.width)
            self.activate = F.gelu if spec.activation == "gelu" else F.relu
        if spec.init == "scaled":
            writers = [self.attention.out, self.down] if spec.has_mlp else [self.attention.out]
            for layer in writers:
                layer.init_scale = (2 * spec.layers) ** -0.5

    def forward(self, x: Tensor, queries: int | None = None, *, scale: Tensor | None = None, **told: Any) -> Tensor:
        """Residual stream (…, T, B, D) in; out, at the first `queries` positions alone if given.

        What attention adds is multiplied by the first, what the MLP adds by the second of `scale` (…, B, 2), if given.
        """
        mixed = self.attention(self.norm1(x), queries=queries, **told)
        x = (x if queries is None else x[..., :queries, :, :]) + scaled(mixed, scale, 0)
        return x + scaled(self.down(self.activate(self.up(self.norm2(x)))), scale, 1) if self.has_mlp else x


class Encoder(nn.Module):
    """Features or words in; class logits out, one answer an example or one a position."""

    def __init__(self, spec: Transformer, shapes: Shapes):
        super().__init__()
        reads_out = shapes.answers == "example"
        positions = shapes.positions + reads_out  # the read-out token comes first
        if shapes.vocabulary is not None:
            self.embed: Words | Linear = Words(shapes.vocabulary, spec.width)
        else:
            assert shapes.features is not None
            self.embed = Linear(shapes.features, spec.width)
        self.read_out = Vectors(1, spec.width) if reads_out else None
        self.positions = Vectors(positions, spec.width) if spec.positions == "learned" else None
        self.waves = sinusoids(positions, spec.width) if spec.positions == "sinusoidal" else None
        self.blocks = nn.ModuleList(Block(spec, shapes, depth=depth) for depth in range(spec.layers))
        self.norm = norm_of(spec)
        self.head = Linear(spec.width, shapes.classes)

    def forward(self, x: Tensor, *, seen: Seen | None = None, **controls: Tensor) -> Tensor:
        """Logits of every answer: (…, B, classes) or (…, B, T, classes).

        Args:
            x: features (…, B, T, F), or words (…, B, T).
            seen: receives each layer's attention weights, and the normed states `final` (…, B, T, D) that are read.
            **controls: what `Transformer.controls` lists, one value a run.
        """
        h = self.embed(x.transpose(-3, -2) if isinstance(self.embed, Linear) else x.mT)  # (…, T, B, D)
        batch = h.shape[-2]
        if self.read_out is not None:
            h = torch.cat([self.read_out(batch), h], dim=-3)
        if self.positions is not None:
            h = h + self.positions(batch)
        elif self.waves is not None:
            self.waves = self.waves.to(h.device)
            h = h + self.waves[:, None]
        *early, last = self.blocks
        for block in early:
            h = block(h, seen=seen, **controls)
        queries = None if self.read_out is None else 1  # nothing reads the other positions
        h = self.norm(last(h, queries, seen=seen, **controls))
        if seen is not None:
            seen.states["final"] = h.transpose(-3, -2)
            seen.again = lambda x: self(x, **controls)
            if isinstance(self.embed, Words):
                seen.states["words"] = self.embed.table
        answers = self.head(h).transpose(-3, -2)
        return answers if queries is None else answers[..., 0, :]


def scaled(branch: Tensor, scale: Tensor | None, which: int) -> Tensor:
    """A branch (…, T, B, D), times each example's scale of it (…, B, 2) if there is one."""
    return branch if scale is None else branch * scale[..., None, :, which, None]


def norm_of(spec: Transformer | Vit) -> nn.Module:
    """The model's norm, or nothing in its place."""
    return LayerNorm(spec.width, eps=spec.norm_eps) if spec.norm == "layer" else nn.Identity()


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
