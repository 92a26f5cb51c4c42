"""The layers of the `memories` model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from workloads.layers import Linear, Words, causal_bar
from workloads.seen import Seen
from workloads.streams import generator
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.memories import Memories


class Directions(Words):
    """Random vectors `table (rows, D)` of length 1 on average, whatever the run's initial scale."""

    def __init__(self, rows: int, width: int):
        super().__init__(rows, width)
        self.size, self.inits["table"] = (rows, width), "own"

    def own_values(self, seed: int, name: str) -> Tensor:
        """First values in the run with this initialisation seed; drawn on the CPU."""
        rng = generator(seed, f"init/{name}", device=torch.device("cpu"))
        return torch.randn(self.size, generator=rng) * self.size[1] ** -0.5


class TwoLayers(nn.Module):
    """Words in; logits of the word behind each of them out."""

    def __init__(self, spec: Memories, shapes: Shapes):
        super().__init__()
        assert shapes.vocabulary is not None
        width = spec.width
        self.words, self.places = Directions(shapes.vocabulary, width), Directions(shapes.positions, width)
        self.answers = Directions(shapes.classes, width)
        self.copy_0, self.value_1 = Directions(width, width), Directions(width, width)
        self.keys_0, self.keys_1, self.out_1, self.feed = (Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor, *, seen: Seen | None = None) -> Tensor:
        """Logits (…, B, T, classes) of words (…, B, T).

        Args:
            x: words.
            seen: receives both layers' attention (…, B, 1, T, T), and the scores of every pair that a memory may keep:
                `previous` (…, T, T) of places with places, `match` (…, V, V) of words with words that layer 0 copied,
                `output` (…, V, classes) of words that layer 1 copied with answers.
        """
        h = self.words(x) + self.places.table[..., None, :, :]  # (…, B, T, D)
        looked = _looked(self.keys_0, h)  # (…, B, T, T)
        h = h + looked @ _times(h, self.copy_0.table)
        again = _looked(self.keys_1, h)
        h = h + self.out_1(again @ _times(h, self.value_1.table))
        if seen is not None:
            seen.attention += [looked[..., None, :, :], again[..., None, :, :]]
            seen.states |= self._pairs()
            seen.again = self
        return _times(h + self.feed(h), self.answers.table.mT.contiguous())

    def _pairs(self) -> dict[str, Tensor]:
        words, places = self.words.table, self.places.table
        copied = words @ self.copy_0.table
        return {
            "previous": self.keys_0(places) @ places.mT,
            "match": self.keys_1(words) @ copied.mT,
            "output": self.out_1(words @ self.value_1.table) @ self.answers.table.mT,
        }


def _times(x: Tensor, table: Tensor) -> Tensor:
    """`(K, B, T, D)` by each member's `(K, D, E)`."""
    return torch.bmm(x.flatten(1, 2), table).unflatten(1, x.shape[1:3])


def _looked(keys: Linear, h: Tensor) -> Tensor:
    """Where each position looks among itself and those before it `(K, B, T, T)`."""
    bar = causal_bar(h.shape[-2], -1, h.device)
    return (keys(h) @ h.mT + bar).softmax(-1)
