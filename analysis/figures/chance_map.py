"""P(eureka by the horizon) over two axes: each cell says k of n, the estimate and its interval."""

import polars as pl
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.estimate import config_table
from analysis.figures import style
from analysis.labels import axis_label, estimate_text, value_text
from analysis.study import Study

NAME, TITLE = "chance_map", "How likely is a eureka-moment?"
NOTHING = "No run has ended yet, so no chance can be estimated."
FEW_RUNS = 5  # below this a cell is hatched: one run moves it by a fifth or more
MOST_LEVELS = 16


def table(study: Study) -> pl.DataFrame:
    """One row a cell: the shown axes (`x`, `y` levels), n and k runs, chance with its interval [fraction]."""
    x, y = _sides(study)
    if study.events.is_empty():
        return pl.DataFrame()
    planned = study.planned_cells
    if planned is not None:
        planned = planned.group_by(study.shown_axes).agg(pl.col("planned").sum())
    cells = config_table(study.events, axes=study.shown_axes, at_step=study.horizon_steps, planned=planned)
    level = {name: pl.col(axis) if axis else pl.lit(None, dtype=pl.String) for name, axis in (("x", x), ("y", y))}
    keep = ("n", "failed", "waiting", "chance", "chance_lo", "chance_hi")
    return cells.select(level["x"].alias("x"), level["y"].alias("y"), pl.col("eureka").alias("k"), *keep)


def _sides(study: Study) -> tuple[str | None, str | None]:
    """The axis with more levels lies along x."""
    shown = study.shown_axes
    if len(shown) < 2 or study.events.is_empty():
        return (shown[0] if shown else None), None
    first, second = shown
    return (first, second) if len(study.levels(first)) >= len(study.levels(second)) else (second, first)


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """Equal cells, so that levels that are far apart stay readable; dark is unlikely, bright is likely."""
    if table.is_empty():
        return style.sentence(NOTHING)
    x, y = _sides(study)
    columns = table["x"].unique().sort(nulls_last=True).to_list()[:MOST_LEVELS]
    rows = table["y"].unique().sort(nulls_last=True).to_list()[:MOST_LEVELS]
    is_wide = len(columns) > 8
    figure = style.new_figure(2.2 + (0.75 if is_wide else 1.15) * len(columns), 0.85 + 0.66 * len(rows))
    axes = figure.subplots()
    shades = colormaps["cividis"]
    for cell in table.iter_rows(named=True):
        if cell["x"] in columns and cell["y"] in rows:
            _cell(axes, cell, at=(columns.index(cell["x"]), rows.index(cell["y"])), shades=shades, brief=is_wide)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.set_xticks(range(len(columns)), [value_text(level) for level in columns] if x else ["all runs"])
    axes.set_yticks(range(len(rows)), [value_text(level) for level in rows] if y else [""] * len(rows))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(axis_label(x) if x else "")
    axes.set_ylabel(axis_label(y).replace(" (", "\n(") if y else "")
    scale = ScalarMappable(norm=Normalize(0, 1), cmap=shades)
    figure.colorbar(scale, ax=axes, label="P(eureka)", fraction=0.06, pad=0.02)
    return figure


def _cell(axes, cell, *, at, shades, brief) -> None:  # type: ignore[no-untyped-def]
    """One rectangle and its words."""
    is_known = cell["chance"] is not None
    face = shades(cell["chance"]) if is_known else "white"
    ink = "black" if not is_known or cell["chance"] > 0.5 else "white"
    hatch = "////" if cell["n"] < FEW_RUNS else None
    left, bottom = at[0] - 0.48, at[1] - 0.47
    axes.add_patch(Rectangle((left, bottom), 0.96, 0.94, facecolor=face, edgecolor=style.QUIET, linewidth=0.6))
    if hatch:
        axes.add_patch(
            Rectangle(
                (left, bottom),
                0.96,
                0.94,
                facecolor="none",
                edgecolor="#ffffff" if ink == "white" else "#555555",
                alpha=0.6,
                hatch=hatch,
                linewidth=0,
            )
        )
    box = {"facecolor": face, "edgecolor": "none", "pad": 1.0} if hatch else None
    axes.text(
        at[0],
        at[1] + (0 if brief else 0.16),
        f"{cell['k']}/{cell['n']}",
        ha="center",
        va="center",
        color=ink,
        fontsize=10,
        fontweight="bold",
        bbox=box,
    )
    if not brief:
        words = estimate_text(cell["chance"], cell["chance_lo"], cell["chance_hi"], none="not known yet")
        axes.text(at[0], at[1] - 0.2, words, ha="center", va="center", color=ink, fontsize=7, bbox=box)


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What the words in a cell are."""
    return (
        f"Each cell: runs with a eureka of runs watched, then P(eureka by step {study.horizon_steps:,}) with its "
        f"95% Rothman-Wilson interval. "
        f"Hatched: fewer than {FEW_RUNS} runs. Failed and waiting runs are not in n."
    )
