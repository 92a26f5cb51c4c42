"""The pictures that mosaics are made of: one pool a device, shared by all runs, and mosaics composed from indices.

A block of data holds indices and colours alone. Pixels are gathered when a step needs them, so K runs of a large batch
cost K blocks of numbers and one pool of bytes.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.errors import WorkloadError
from workloads.images import Images, Source, Split, images_of


class Parts(NamedTuple):
    """Which images a task shows.

    Attributes:
        indicators: their set, and
        kinds: its classes, in groups that count as the same; empty where a rule has no indicators.
        targets: two sets, for the first and the second target.
        target_classes: the first so many of each.
        cell: side of a cell [pixels].
        channels: 1 or 3.
    """

    indicators: Source
    kinds: tuple[tuple[int, ...], ...]
    targets: tuple[Source, Source]
    target_classes: int
    cell: int
    channels: int


@dataclass(frozen=True)
class Pool:
    """Images as rows: the indicators kind by kind, both sets of targets, and a black one at the end.

    Attributes:
        pixels: `(N, cell², 1 or 3)` uint8.
        kind_of: each indicator's kind `(indicators,)`; indicators are the first rows.
        first, count: of each kind, where its rows begin, and how many there are `(kinds,)`.
        target_rows: where each set of targets begins.
        target_labels: the labels of both.
        black: index of the black image.
        labels: the class of each row `(N,)`; -1 of the black one.
    """

    pixels: Tensor
    kind_of: Tensor
    first: Tensor
    count: Tensor
    target_rows: tuple[int, int]
    target_labels: tuple[Tensor, Tensor]
    black: int
    labels: Tensor


def pool_of(parts: Parts, split: Split, device: torch.device) -> Pool:
    """The pool of a split, loaded once for each device.

    Raises:
        WorkloadError: files are missing or damaged, or have no image of a class.
    """
    named = torch.empty(0, device=device).device  # 'cuda' and 'cuda:0' are one place
    return _pool(parts, split, os.environ.get("EUREKA_DATA", ""), named)


@functools.lru_cache(maxsize=8)
def _pool(parts: Parts, split: Split, folder: str, device: torch.device) -> Pool:
    shown = [_of_classes(parts.indicators, split, kind) for kind in parts.kinds]
    counts = [len(images.labels) for images in shown]
    targets = [_of_classes(source, split, tuple(range(parts.target_classes))) for source in parts.targets]
    is_same = parts.targets[0] == parts.targets[1]
    rows = [_rows(images, parts) for images in (*shown, *targets[: 1 if is_same else 2])]
    black = sum(map(len, rows))
    rows.append(torch.zeros(1, parts.cell**2, rows[-1].shape[-1], dtype=torch.uint8))
    channels = max(row.shape[-1] for row in rows)
    begin = sum(counts)
    labels = np.concatenate([*(each.labels for each in (*shown, *targets[: 1 if is_same else 2])), [-1]])
    return Pool(
        pixels=torch.cat([row.expand(-1, -1, channels) for row in rows]).to(device),
        kind_of=torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.int64)).to(device),
        first=torch.tensor([sum(counts[:i]) for i in range(len(counts))], device=device),
        count=torch.tensor(counts, device=device),
        target_rows=(begin, begin if is_same else begin + len(targets[0].labels)),
        target_labels=tuple(torch.from_numpy(each.labels.copy()).to(device) for each in targets),  # type: ignore[arg-type]
        black=black,
        labels=torch.from_numpy(labels).to(device),
    )


def _of_classes(source: Source, split: Split, classes: tuple[int, ...]) -> Images:
    whole = images_of(source, split)
    chosen = np.isin(whole.labels, classes)
    lacking = set(classes) - set(whole.labels[chosen].tolist())
    if lacking:
        raise WorkloadError(f"images '{source}', {split}: no image of class {min(lacking)}")
    return Images(whole.pixels[chosen], whole.labels[chosen])


def _rows(images: Images, parts: Parts) -> Tensor:
    """Images of any size as rows of the cell's `(N, cell², channels)`, gray where one channel is asked for."""
    pixels = torch.from_numpy(images.pixels.copy()).movedim(-1, 1)  # (N, channels, side, side)
    if parts.channels == 1 and pixels.shape[1] == 3:
        pixels = pixels.float().mean(1, keepdim=True).round().byte()
    if pixels.shape[-1] != parts.cell:
        smooth = F.interpolate(pixels.float(), size=(parts.cell, parts.cell), mode="bilinear", antialias=True)
        pixels = smooth.round().clamp(0, 255).byte()
    return pixels.flatten(2).mT.contiguous()


def mosaic(pixels: Tensor, image: Tensor, colour: Tensor) -> Tensor:
    """Four images an example, side by side: pixels in reading order, between 0 and the colour.

    Args:
        pixels: a pool's.
        image: rows of the cells top left, top right, bottom left, bottom right `(…, B, 4)`.
        colour: what each is multiplied by `(…, B, 4, C)`.

    Returns:
        `(…, B, 4·cell², C)`.
    """
    side = round(pixels.shape[1] ** 0.5)
    shown = pixels.index_select(0, image.flatten()).view(*image.shape, *pixels.shape[1:])
    coloured = shown.float() * (colour / 255.0)[..., None, :]  # (…, B, 4, cell², C)
    cells = coloured.unflatten(-2, (side, side)).unflatten(-4, (2, 2))  # (…, B, row, column, y, x, C)
    return cells.transpose(-4, -3).flatten(-5, -2)
