"""How much attention rests on which cells of a mosaic.

Tokens behind the read-out token are taken as a square grid of patches, whatever their size; where cells would share
patches, the masses are not a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workloads.tasks.mosaic_draws import ANSWER, INDICATOR, OTHER
from workloads.tasks.task import not_shown

if TYPE_CHECKING:
    from workloads.seen import Seen
    from workloads.tasks.task import Batch


def masses(seen: Seen, batch: Batch, *, names: Sequence[str]) -> Batch:
    """Attention of the last layer's read-out token on indicators, answer, other; of the layers before on both kinds.

    Args:
        seen: of the forward pass.
        batch: holds what each cell is, `role (K, B, 4)`.
        names: five, in that order.
    """
    found = not_shown(names, batch)
    if not seen.attention:
        return found
    role = batch["role"]
    last = by_cell(seen.attention[-1][..., :1, :])
    if last is not None:
        on = {what: _on(last, role == what) for what in (INDICATOR, ANSWER, OTHER)}
        found |= dict(zip(names, on.values(), strict=False))
    early = [cells for weights in seen.attention[:-1] if (cells := by_cell(weights)) is not None]
    if early:
        every = torch.stack(early).mean(0)
        found |= dict(
            zip(names[3:], (_on(every, role == INDICATOR), _on(every, (role == ANSWER) | (role == OTHER))), strict=True)
        )
    return found


def regions(batch: Batch) -> dict[str, Tensor]:
    """Which cells hold indicators, and which targets: `(K, B, 4)` each."""
    role = batch["role"]
    return {"indicators": role == INDICATOR, "targets": (role == ANSWER) | (role == OTHER)}


def by_cell(weights: Tensor) -> Tensor | None:
    """Share of each cell in attention `(K, B, H, Q, T)`: `(K, B, 4)`, all queries and heads; None if they straddle."""
    grid = _squares(weights.mean(dim=(2, 3)))
    return None if grid is None else grid.sum(dim=(3, 5)).flatten(2)


def quadrants(values: Tensor) -> Tensor | None:
    """Means over the tokens of each cell, the read-out token left out: `(…, T)` to `(…, 4)`; None if any straddle."""
    grid = _squares(values)
    return None if grid is None else grid.mean(dim=(-3, -1)).flatten(-2)


def _squares(values: Tensor) -> Tensor | None:
    """Tokens `(…, T)` by cell `(…, row, y, column, x)`; None if any belong to two."""
    side = math.isqrt(values.shape[-1] - 1)
    if side % 2 or side**2 != values.shape[-1] - 1:
        return None
    return values[..., 1:].unflatten(-1, (2, side // 2, 2, side // 2))


def _on(cells: Tensor, chosen: Tensor) -> Tensor:
    """Mean mass of the chosen cells: `(K,)`."""
    return (cells * chosen).sum(-1).mean(1)
