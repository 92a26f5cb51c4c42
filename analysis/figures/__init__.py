"""Figures, one a file: `table` makes a small frame, `draw` never computes, `caption` says what it is.

A new figure is one file and one line here.
"""

from collections.abc import Callable
from typing import Protocol

import polars as pl
from matplotlib.figure import Figure as Drawing

from analysis.figures import (
    abruptness,
    aligned,
    calibration,
    chance_map,
    compute,
    cost,
    definitions,
    effects,
    event_curves,
    final_levels,
    growth,
    laws,
    outcomes,
    progress,
    search_front,
    search_history,
    search_importance,
    search_line,
    search_seeds,
    search_slices,
    surface,
    timing,
    traces,
    wait_map,
)
from analysis.study import Study


class FigureModule(Protocol):
    """What each figure's file offers; where there is nothing to draw `table` is empty, and `NOTHING` is shown."""

    NAME: str
    TITLE: str
    NOTHING: str
    table: Callable[[Study], pl.DataFrame]

    def draw(self, table: pl.DataFrame, *, study: Study) -> Drawing:
        """The table as a picture."""

    def caption(self, table: pl.DataFrame, *, study: Study) -> str:
        """What is shown, from what, and how."""


FIGURES: tuple[FigureModule, ...] = (
    chance_map, wait_map, surface, calibration, event_curves, outcomes, timing, compute, cost, effects, laws, traces,
    aligned, abruptness, final_levels, progress, growth, definitions,
)  # type: ignore[assignment]  # fmt: skip
OF_SEARCH: tuple[FigureModule, ...] = (
    search_line, search_seeds, search_history, search_front, search_importance, search_slices,
)  # type: ignore[assignment]  # fmt: skip


def figures_for(study: Study) -> tuple[FigureModule, ...]:
    """What a report shows: of a search, how it went before what its runs say."""
    return FIGURES if study.search is None else (*OF_SEARCH, *FIGURES)


__all__ = ["FIGURES", "OF_SEARCH", "FigureModule", "figures_for"]
