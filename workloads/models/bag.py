"""The layers of the `scan_snap` model.

Only what can receive a gradient is stored: rows of Z for words that ask, columns of Z and rows of Y for words that are
read. A context is a bag, so its words are counted once and the arithmetic is over the vocabulary, not over positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from workloads.layers import Init, Layer
from workloads.seen import Seen
from workloads.streams import generator
from workloads.tasks.scan_snap import BagShapes
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.scan_snap import ScanSnapModel


class Bag(Layer):
    """Tables of scores and answers, and what they make of a context."""

    scores: nn.Parameter
    answers: nn.Parameter

    def __init__(self, spec: ScanSnapModel, shapes: Shapes):
        super().__init__()
        assert shapes.vocabulary is not None
        self.contextual = self.queries = shapes.vocabulary  # any word may be read and ask
        self.first_query = 0
        if isinstance(shapes, BagShapes):
            self.contextual, self.queries, self.first_query = shapes.contextual, shapes.queries, shapes.contextual
        init: Init = "own" if spec.init == "uniform" else "zeros"
        self.reach = shapes.classes**-0.5
        self.residual, self.words = spec.residual, self.contextual
        if spec.residual and self.first_query:  # queries speak with rows behind those of the words that are read
            self.words += self.queries
        self.sizes = {"scores": (self.queries, self.contextual), "answers": (self.words, shapes.classes)}
        self.declare("scores", *self.sizes["scores"], init=init, group="z")
        self.declare("answers", *self.sizes["answers"], init=init, group="y")

    def forward(self, x: Tensor, *, seen: Seen | None = None) -> Tensor:
        """Logits of the next word (…, B, M).

        Args:
            x: context words, then the query (…, B, T).
            seen: receives the attention over context words (…, B, 1, 1, words), and Z as the state `scores`.
        """
        context, query = x[..., :-1], x[..., -1]
        counts = context.new_zeros(*context.shape[:-1], self.contextual, dtype=torch.float32)
        counts = counts.scatter_add(-1, context, torch.ones((), device=x.device).expand(context.shape))
        askers = torch.arange(self.first_query, self.first_query + self.queries, device=x.device)
        asks = (query[..., None] == askers).float()  # (…, B, queries)
        attention = (counts.log() + asks @ self.scores).softmax(-1)  # (…, B, words); of absent words 0
        if seen is not None:
            seen.attention.append(attention[..., None, None, :])
            seen.states["scores"] = self.scores
        direction = attention / torch.linalg.vector_norm(attention, dim=-1, keepdim=True)
        if not self.residual:
            return direction @ self.answers
        read, asking = self.answers[..., : self.contextual, :], self.answers[..., self.first_query :, :]
        return direction @ read + asks @ asking

    def own_values(self, seed: int, name: str) -> Tensor:
        """A table's first values: uniform between ±1/sqrt(M)."""
        rng = generator(seed, f"init/{name}", device=torch.device("cpu"))
        return (2.0 * torch.rand(self.sizes[name], generator=rng) - 1.0) * self.reach
