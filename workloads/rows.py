"""Flat `(K, P)` storage: a run is a row, and a model's parameters are views of the rows.

Every parameter starts on a 64-byte boundary of its row and rows are whole multiples of it, so that
vector code sees the same alignment in every slot (matrix libraries may sum in another order on
another alignment, which would break bit-identity between slots).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workloads.errors import UnfitWeights
from workloads.forks import Trainable, matching
from workloads.layers import Init, Layer
from workloads.streams import generator

NO_DECAY = "no_decay"  # the group of parameters that weight decay leaves alone; they lie at a row's end
_ALIGN = 16  # float32 values in 64 bytes


@dataclass(frozen=True)
class Place:
    """Where one parameter lies in a row."""

    name: str
    owner: nn.Module
    shape: tuple[int, ...]
    offset: int
    init: Init
    group: str

    @property
    def size(self) -> int:
        """Values of the parameter."""
        return math.prod(self.shape)

    def view(self, rows: Tensor) -> Tensor:
        """The parameter in every row: `(K, P)` to `(K, *shape)`."""
        return rows[:, self.offset : self.offset + self.size].view(len(rows), *self.shape)


@dataclass(frozen=True)
class Segment:
    """Neighbouring parameters of one group: row[start:stop]."""

    group: str
    start: int
    stop: int


class Layout:
    """The row layout of a model that was just built on the meta device.

    Args:
        model: what was built.
        is_split: every parameter is a segment, so that it can be frozen.
    """

    def __init__(self, model: nn.Module, *, is_split: bool = False):
        self.model, self.is_split = model, is_split
        self.places: list[Place] = []
        offset = 0
        layers = [(prefix, layer) for prefix, layer in model.named_modules() if isinstance(layer, Layer)]
        declared = [(prefix, layer, name) for prefix, layer in layers for name in layer.inits]
        for prefix, layer, name in sorted(declared, key=lambda each: each[1].groups[each[2]] == NO_DECAY):
            shape, init = tuple(layer.get_parameter(name).shape), layer.inits[name]
            self.places.append(Place(f"{prefix}.{name}".lstrip("."), layer, shape, offset, init, layer.groups[name]))
            offset += -(-math.prod(shape) // _ALIGN) * _ALIGN
        self.width = offset
        self.segments = tuple(self._segments())

    def _segments(self) -> Iterator[Segment]:
        """The row, cut where the group of its parameters changes, or at each of them."""
        for (group, _), places in itertools.groupby(self.places, key=self._cut_by):
            run = list(places)
            end = run[-1].offset + -(-run[-1].size // _ALIGN) * _ALIGN
            yield Segment(group, run[0].offset, end)

    def _cut_by(self, place: Place) -> tuple[str, str]:
        return place.group, place.name if self.is_split else ""

    def frozen(self, trainable: Trainable | None) -> frozenset[int]:
        """Which segments of a split layout keep their first weights."""
        if trainable is None:
            return frozenset()
        trained = matching(trainable.only, [place.name for place in self.places])
        return frozenset(index for index, place in enumerate(self.places) if place.name not in trained)

    @property
    def parameters(self) -> int:
        """Trainable values of one run, padding not counted."""
        return sum(place.size for place in self.places)

    def bind(self, rows: Tensor, *, trained: bool) -> list[nn.Parameter]:
        """Back the model's parameters with rows `(K, P)`; returns them, in the order of `views`."""
        parameters = [nn.Parameter(view, requires_grad=trained) for view in self.views(rows)]
        for place, parameter in zip(self.places, parameters, strict=True):
            setattr(place.owner, place.name.rpartition(".")[2], parameter)
        return parameters

    def views(self, rows: Tensor) -> list[Tensor]:
        """Every parameter's part of rows `(K, P)`, which writing to it changes."""
        return [place.view(rows) for place in self.places]

    def gathered(self, values: list[Tensor]) -> Tensor:
        """Rows `(K, P)` from every parameter's values `(K, *shape)`, with zeros between them."""
        parts = []
        for place, value in zip(self.places, values, strict=True):
            flat = value.reshape(len(value), -1)
            parts += [flat, flat.new_zeros(len(value), -place.size % _ALIGN)]
        return torch.cat(parts, dim=1)

    def initial_row(self, seed: int, *, std: float, device: torch.device) -> Tensor:
        """A run's first weights `(P,)`: each parameter has a stream of its own, found by its name."""
        row = torch.zeros(self.width, device=device)
        for place in self.places:
            values = row[place.offset : place.offset + place.size]
            owner: Any = place.owner
            if place.init == "normal":
                rng = generator(seed, f"init/{place.name}", device=device)
                torch.randn(place.size, generator=rng, out=values)
                values.mul_(std * owner.init_scale)
            elif place.init == "truncated":
                rng = generator(seed, f"init/{place.name}", device=device)
                nn.init.trunc_normal_(values, std=std * owner.init_scale, generator=rng)
            elif place.init == "ones":
                values.fill_(1.0)
            elif place.init == "own":
                values.copy_(owner.own_values(seed, place.name).flatten())
        return row

    def named(self, row: Tensor) -> dict[str, np.ndarray]:
        """A row `(P,)` as one array a parameter, without the gaps between them."""
        views = zip(self.places, self.views(row[None]), strict=True)
        return {place.name: view[0].cpu().numpy().copy() for place, view in views}

    def overlay(self, row: Tensor, weights: Mapping[str, np.ndarray], *, fresh: str) -> None:
        """Write what `named` gave into a row `(P,)`, but for the parts that are to stay as drawn.

        Raises:
            UnfitWeights: another model's.
        """
        drawn = matching(fresh, [place.name for place in self.places])
        for place, view in zip(self.places, self.views(row[None]), strict=True):
            if place.name in drawn:
                continue
            found = weights.get(place.name)
            if found is None or found.shape != place.shape:
                got = "none of that name" if found is None else f"shape {found.shape}"
                raise UnfitWeights(f"weights of {place.name}: got {got}; expected {place.shape}, as the model has it")
            view[0].copy_(torch.from_numpy(np.asarray(found)))
