"""The layers of the `declared` model."""

from __future__ import annotations

from torch import Tensor, nn

from workloads.layers import Layer
from workloads.seen import Seen


class Clock(Layer):
    """The step at hand, for every example."""

    weight: nn.Parameter

    def __init__(self, width: int):
        super().__init__()
        self.declare("weight", width, init="normal")

    def forward(self, x: Tensor, *, step: Tensor, seen: Seen | None = None) -> Tensor:
        """Each member's step `(K,)`, for every example of `x (K, B, 1, 1)`, with a gradient for weights `(K, B, 1)`."""
        told = self.weight.sum(-1)  # (K,)
        return (step + (told - told.detach())).view(-1, 1, 1).expand(-1, x.shape[1], 1)
