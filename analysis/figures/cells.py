"""Maps over two axes: equal cells, so that levels that are far apart stay readable, with words where there is room.

A cell's colour is its estimate, and it pales towards white as the estimate's interval widens: what is not known does
not catch the eye. The key at the side shows both.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures import style
from analysis.labels import axis_label, value_text
from analysis.study import Study

FEW_RUNS = 5  # below this a cell is hatched: one run moves it by a fifth or more
MOST_LEVELS = 40
WORDY, BRIEF = 8, 16  # levels along x up to which a cell holds two lines, one line
FAINTEST = 0.4  # opacity of an estimate whose interval is as wide as can be
KEY_COLUMNS = 4  # opacities that the key shows


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell: where, what decides its colour (None: unknown), how unsure that is, and its words.

    `unsure` is the width of the estimate's interval, as a share of the widest that is told apart [fraction].
    """

    x: object
    y: object
    value: float | None
    unsure: float
    is_few: bool
    head: str
    words: str


def sides(study: Study) -> tuple[str | None, str | None]:
    """The axis with more levels lies along x."""
    shown = study.shown_axes
    if len(shown) < 2 or study.events.is_empty():
        return (shown[0] if shown else None), None
    first, second = shown
    return (first, second) if len(study.levels(first)) >= len(study.levels(second)) else (second, first)


@dataclass(frozen=True, kw_only=True)
class Key:
    """What colours mean: a map from value to shade, and words for both directions of the key.

    `widths` says which intervals the key's columns stand for, the surest first.
    """

    shades: Any
    norm: Any
    label: str
    widths: tuple[str, str]
    widths_label: str

    def face(self, value: float | None, unsure: float) -> Any:
        """The colour of a value, paled by how unsure it is."""
        if value is None:
            return (1.0, 1.0, 1.0)
        shade, opacity = np.array(self.shades(self.norm(value))[:3]), 1 - (1 - FAINTEST) * min(max(unsure, 0.0), 1.0)
        return tuple((1 - opacity * (1 - shade)).tolist())


def levels_of(cells: pl.DataFrame) -> tuple[int, int]:
    """How many columns and rows a table of cells has, from its `x` and `y`."""
    return min(cells["x"].n_unique(), MOST_LEVELS), min(cells["y"].n_unique(), MOST_LEVELS)


def lines_of_words(levels: tuple[int, int]) -> int:
    """How many lines of words a cell has room for where there are so many columns and rows."""
    columns, rows = levels
    wide = max(columns, rows if columns > WORDY else 0)
    return 2 if wide <= WORDY else 1 if wide <= BRIEF else 0


def draw_cells(cells: Sequence[Cell], *, study: Study, key: Key) -> Figure:
    """The map, its axes labelled and its colours explained."""
    x, y = sides(study)
    columns = _levels([cell.x for cell in cells], x, study)
    rows = _levels([cell.y for cell in cells], y, study)
    lines = lines_of_words((len(columns), len(rows)))
    width, height = ((0.26, 0.22), (0.75, 0.5), (1.15, 0.66))[lines]
    figure = style.new_figure(2.6 + width * len(columns), max(0.95 + height * len(rows), 2.2))
    axes, beside = figure.subplots(1, 2, width_ratios=[width * len(columns), 0.5])
    for cell in cells:
        if cell.x in columns and cell.y in rows:
            at = (columns.index(cell.x), rows.index(cell.y))
            _cell(axes, cell, at=at, face=key.face(cell.value, cell.unsure), lines=lines)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    turn: dict[str, Any] = {"rotation": 90} if len(columns) > WORDY else {}
    across = [style.wrapped(value_text(level), width=width if lines > 1 else 2.5, lines=4) for level in columns]
    axes.set_xticks(range(len(columns)), across if x else ["all runs"], **turn)
    up = [style.wrapped(value_text(level), width=2.5, lines=2) for level in rows]
    axes.set_yticks(range(len(rows)), up if y else [""] * len(rows))
    axes.tick_params(length=0, labelsize=8 if lines else 6)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(axis_label(x) if x else "")
    axes.set_ylabel(axis_label(y).replace(" (", "\n(") if y else "")
    _draw_key(beside, key)
    return figure


def _draw_key(axes: Axes, key: Key) -> None:
    """Values upwards, widths of the interval from left to right."""
    low, high = float(key.norm.vmin), float(key.norm.vmax)
    heights = np.asarray(key.norm.inverse(np.linspace(0, 1, 64)))
    unsure = (np.arange(KEY_COLUMNS) + 0.5) / KEY_COLUMNS
    picture = np.array([[key.face(float(value), one) for one in unsure] for value in heights])
    axes.pcolormesh(np.arange(KEY_COLUMNS + 1), np.append(heights, high), picture, rasterized=True)
    axes.set_yscale("log" if low > 0 else "linear")
    if low > 0:
        style.log_ticks(axes.yaxis, low=low, high=high)
    axes.set_ylim(low, high)
    axes.set_xlim(0, KEY_COLUMNS)
    axes.set_xticks([0.5, KEY_COLUMNS - 0.5], key.widths, fontsize=7)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel(key.widths_label, fontsize=7)
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.set_ylabel(key.label)


def _levels(values: Sequence[Any], axis: str | None, study: Study) -> list[Any]:
    """Levels in the sweep's order, planned ones of which no run has ended last; at most MOST_LEVELS."""
    known = study.levels(axis) if axis else []
    found = sorted(dict.fromkeys(values), key=lambda level: known.index(level) if level in known else len(known))
    with contextlib.suppress(TypeError):  # numbers have their own order
        if not any(isinstance(level, str) for level in found):
            found.sort(key=lambda level: (level is None, level))
    return found[:MOST_LEVELS]


def _cell(axes: Axes, cell: Cell, *, at: tuple[int, int], face: Any, lines: int) -> None:
    """One rectangle and its words."""
    ink = "black" if _brightness(face) > 0.5 else "white"
    place, size = (at[0] - 0.48, at[1] - 0.47), (0.96, 0.94)
    axes.add_patch(Rectangle(place, *size, facecolor=face, edgecolor=style.QUIET, linewidth=0.6))
    if cell.is_few:
        edge = "#ffffff" if ink == "white" else "#555555"
        axes.add_patch(Rectangle(place, *size, facecolor="none", edgecolor=edge, alpha=0.6 if lines else 0.35,
                                 hatch="////" if lines else "///", linewidth=0))  # fmt: skip
    box = {"facecolor": face, "edgecolor": "none", "pad": 1.0} if cell.is_few else None
    words: dict[str, Any] = {"ha": "center", "va": "center", "color": ink, "bbox": box}
    if lines:
        axes.text(at[0], at[1] + (0.16 if lines > 1 else 0), cell.head, fontsize=10, fontweight="bold", **words)
    if lines > 1:
        axes.text(at[0], at[1] - 0.2, cell.words, fontsize=7, **words)


def _brightness(face: Any) -> float:
    red, green, blue = face[:3]
    return float(0.3 * red + 0.59 * green + 0.11 * blue)
