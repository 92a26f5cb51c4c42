"""The layers of the `single_query` model."""

from __future__ import annotations

from torch import Tensor, nn

from workloads.layers import Layer, Linear
from workloads.seen import Seen
from workloads.tasks.task import Shapes


class Readout(Layer):
    """One attention over positions for all examples, then a linear map."""

    scores: nn.Parameter

    def __init__(self, shapes: Shapes):
        super().__init__()
        assert shapes.features is not None
        self.declare("scores", shapes.positions, init="zeros")
        self.map = Linear(shapes.features, shapes.classes, bias=False)

    def forward(self, x: Tensor, *, seen: Seen | None = None) -> Tensor:
        """Answers `(K, B, classes)` to tokens `(K, B, T, F)`; `seen` receives the attention `(K, B, 1, 1, T)`."""
        weights = self.scores.softmax(-1)  # (K, T)
        if seen is not None:
            seen.attention.append(weights[:, None, None, None].expand(-1, x.shape[1], -1, -1, -1))
        return self.map((x * weights[:, None, :, None]).sum(2))
