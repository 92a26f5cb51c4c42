"""What a mosaic shows and where: indices of images, colours and labels, drawn for a block of steps.

An example is four items, indicator A, target 1, target 2, indicator B, dealt to the cells top left, top right, bottom
left, bottom right. Where the indicators agree target 1 answers, else target 2.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workloads.tasks.pictures import Pool

if TYPE_CHECKING:
    from workloads.tasks.mosaic import Mosaic
    from workloads.tasks.task import Batch

INDICATOR, ANSWER, OTHER, BLANK = range(4)  # what a cell holds
RED, BLUE, WHITE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0)
PALETTE = (  # colours that are answers, in the order of their labels: our shades of the names that the paper lists
    (0.60, 0.30, 0.00),  # brown
    BLUE,
    (1.00, 1.00, 0.00),  # yellow
    (1.00, 0.60, 0.00),  # orange
    RED,
    (0.00, 0.80, 0.00),  # green
    (0.55, 0.00, 0.75),  # purple
    (0.50, 0.50, 0.50),  # gray
    (1.00, 0.60, 0.75),  # pink
    (0.00, 0.85, 0.80),  # turquoise
)
DEALS: dict[
    str, tuple[tuple[int, ...], ...]
] = {  # for each cell the item that it holds; one deal of the list at random
    "no_position": ((0, 1, 2, 3), (1, 0, 2, 3), (0, 1, 3, 2), (1, 0, 3, 2)),
    "shuffled": tuple(itertools.permutations(range(4))),
    "alignment": ((0, 1, 2, 3), (1, 0, 3, 2), (1, 0, 2, 3), (0, 1, 3, 2)),  # two diagonals, then left, right
}
FIXED = ((0, 1, 2, 3),)


def draw(task: Mosaic, pool: Pool, rng: torch.Generator, *, shape: tuple[int, int]) -> Batch:
    """One set of examples: `image`, `role (S, B, 4)`, `colour (S, B, 4, C)`, `y (S, B)`."""
    draws = _Draws(rng, shape)
    indicators, is_same, tints = _indicators(task, pool, draws)
    indices = [_target(task, pool, draws, which) for which in range(2)]
    labels = [pool.target_labels[which][index] for which, index in enumerate(indices)]
    if task.rule == "colour_or_class":
        labels[1] = draws.integers(len(PALETTE))
        tints[1], tints[2] = (_shades(PALETTE, each) for each in (labels[1], draws.integers(len(PALETTE))))
    rows = [index + begin for index, begin in zip(indices, pool.target_rows, strict=True)]
    items = torch.stack([indicators[0], *rows, indicators[1]], dim=2)
    cells = _deal(task, draws, is_same)
    colour = torch.stack(tints, dim=2)
    colour = (colour + task.colour_noise * draws.normals(4, 3))[..., : task.channels]
    return {
        "image": items.gather(2, cells),
        "colour": colour.gather(2, cells[..., None].expand_as(colour)),
        "role": _roles(task, is_same).gather(2, cells),
        "y": torch.where(is_same, labels[0], labels[1]),
    }


class _Draws:
    """Numbers for every example `(S, B, …)` from one generator."""

    def __init__(self, rng: torch.Generator, shape: tuple[int, int]):
        self.rng, self.shape = rng, shape

    def integers(self, n: int) -> Tensor:
        return torch.randint(n, self.shape, generator=self.rng, device=self.rng.device)

    def chances(self) -> Tensor:
        return torch.rand(self.shape, generator=self.rng, device=self.rng.device)

    def normals(self, *more: int) -> Tensor:
        return torch.randn(*self.shape, *more, generator=self.rng, device=self.rng.device)


def _indicators(task: Mosaic, pool: Pool, draws: _Draws) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Rows of A and B, whether they agree, and the colour of each of the four items `(S, B, 3)`."""
    white = torch.tensor(WHITE, device=draws.rng.device).expand(*draws.shape, 3)
    tints = [white] * 4
    if task.rule == "alignment":
        black = torch.full(draws.shape, pool.black, device=draws.rng.device)
        return [black, black], draws.chances() < task.top_right_probability, tints
    if task.has_red_and_blue:
        redness = [draws.integers(2) for _ in range(4)]
        if task.rule == "colour":
            redness[3] = _agreeing(redness[0], redness[3], 2, task, draws)
        reds = [_shades((RED, BLUE), each) for each in redness]
        tints = reds if task.rule == "colour" else [reds[0], white, white, reds[3]]
    a, b = draws.integers(len(pool.kind_of)), draws.integers(len(pool.kind_of))
    if task.rule == "colour":
        return [a, b], redness[0] == redness[3], tints
    kind = pool.kind_of[a]
    wanted = _agreeing(kind, pool.kind_of[b], len(pool.first), task, draws)
    drawn_anew = pool.first[wanted] + (draws.chances() * pool.count[wanted]).long()
    b = torch.where(wanted == pool.kind_of[b], b, drawn_anew)
    return [a, b], kind == wanted, tints


def _agreeing(kind: Tensor, free: Tensor, kinds: int, task: Mosaic, draws: _Draws) -> Tensor:
    """B's kind: as drawn, or forced to be A's (to be another) as often as the probability is above (below) a half."""
    bias = 2.0 * task.top_right_probability - 1.0
    forced = draws.chances() < abs(bias)
    other = (kind + 1 + draws.integers(kinds - 1)) % kinds
    return torch.where(forced, kind if bias > 0 else other, free)


def _target(task: Mosaic, pool: Pool, draws: _Draws, which: int) -> Tensor:
    """Any image of a set; the first target's may come from part of it, several times in a batch."""
    labels = pool.target_labels[which]
    if which or task.repeats == 1:
        return draws.integers(len(labels))
    steps, batch = draws.shape
    known = max(1, len(labels) // task.repeats)
    distinct = -(-batch // task.repeats)
    shown = torch.randint(known, (steps, distinct), generator=draws.rng, device=draws.rng.device)
    return shown.repeat_interleave(task.repeats, dim=1)[:, :batch]


def _deal(task: Mosaic, draws: _Draws, is_same: Tensor) -> Tensor:
    """For each cell the item that it holds `(S, B, 4)`."""
    deals = torch.tensor(DEALS.get(task.rule, FIXED), device=draws.rng.device)
    if task.rule == "alignment":
        return deals[2 * is_same.long() + draws.integers(2)]
    return deals[draws.integers(len(deals))]


def _roles(task: Mosaic, is_same: Tensor) -> Tensor:
    """What each of the four items is in every example `(S, B, 4)`."""
    first = torch.full_like(is_same, ANSWER, dtype=torch.int64)
    if task.rule != "colour_or_class":
        first = torch.where(is_same, ANSWER, OTHER)
    beside = torch.full_like(first, BLANK if task.rule == "alignment" else INDICATOR)
    return torch.stack([beside, first, ANSWER + OTHER - first, beside], dim=2)


def _shades(table: tuple[tuple[float, ...], ...], index: Tensor) -> Tensor:
    return torch.tensor(table, device=index.device)[index]
