"""The layers of the `bert` model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from workloads.layers import LayerNorm, Linear, SelfAttention, Vectors, Words
from workloads.seen import Seen
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.bert import Bert


class PostNormBlock(nn.Module):
    """x = norm(x + attention(x)), then x = norm(x + mlp(x))."""

    def __init__(self, spec: Bert, shapes: Shapes):
        super().__init__()
        hidden = round(spec.mlp_ratio * spec.width)
        self.attention = SelfAttention(
            spec.width, spec.heads, statistic=spec.attention.statistic, qkv_bias=True, sources=shapes.sources
        )
        self.norm1 = LayerNorm(spec.width, eps=spec.norm_eps)
        self.up = Linear(spec.width, hidden)
        self.down = Linear(hidden, spec.width)
        self.norm2 = LayerNorm(spec.width, eps=spec.norm_eps)

    def forward(self, x: Tensor, *, seen: Seen | None = None, **controls: Tensor) -> Tensor:
        """Residual stream (…, T, B, D) in and out."""
        x = self.norm1(x + self.attention(x, seen=seen, **controls))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class PostNormEncoder(nn.Module):
    """Words in; an answer at every position out."""

    def __init__(self, spec: Bert, shapes: Shapes):
        super().__init__()
        assert shapes.vocabulary is not None
        self.embed = Words(shapes.vocabulary, spec.width)
        self.positions = Vectors(shapes.positions, spec.width)
        self.norm = LayerNorm(spec.width, eps=spec.norm_eps)
        self.blocks = nn.ModuleList(PostNormBlock(spec, shapes) for _ in range(spec.layers))
        self.head = Linear(spec.width, shapes.classes)

    def forward(self, x: Tensor, *, seen: Seen | None = None, **controls: Tensor) -> Tensor:
        """Answers (…, B, T, classes) to words (…, B, T).

        Args:
            x: the words.
            seen: receives each layer's attention weights, the states that the read-out reads, `final` (…, B, T, D), and
                those behind each layer, `layer_0` … (…, B, T, D), the first before any.
            **controls: what `Bert.controls` lists, one value a run.
        """
        h = self.embed(x.mT)  # (…, T, B, D)
        h = self.norm(h + self.positions(h.shape[-2]))
        states = [h]
        for block in self.blocks:
            h = block(h, seen=seen, **controls)
            states.append(h)
        if seen is not None:
            seen.states |= {f"layer_{depth}": state.transpose(-3, -2) for depth, state in enumerate(states)}
            seen.states["final"] = h.transpose(-3, -2)
            seen.states["words"] = self.embed.table
            seen.again = lambda x: self(x, **controls)
        return self.head(h).transpose(-3, -2)
