"""Forest plot: each level of each axis against the axis's first: difference in P, ratios of odds, time and cost."""

from typing import Literal

import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from analysis.effects import compare
from analysis.errors import AnalysisError
from analysis.figures import style
from analysis.figures.selection import evenly, thinned, watched
from analysis.labels import short, value_text
from analysis.multiplicity import MOST_DECLARED, adjust
from analysis.study import Study

NAME, TITLE = "effects", "What does each setting change?"
NOTHING = "No axis has two levels with runs, so there is nothing to compare."
MOST_CONTRASTS = 6  # of an axis; evenly over its levels
MOST_AXES = 4
MOST_ARM = 4000  # runs of an arm: more change no digit that is drawn, and take long
SHOWN = {"risk difference": "difference in P", "odds ratio": "odds ratio", "time ratio": "time ratio (given eureka)",
         "cost ratio": "ERT ratio"}  # fmt: skip
FEWEST = 5


def table(study: Study) -> pl.DataFrame:
    """One row a (contrast, effect): axis, contrast, effect, estimate, lo, hi, p, p_adjusted, family, adjustment, n's.

    Of each axis at most MOST_CONTRASTS levels are set against its first. A family is one effect over all contrasts.
    """
    parts = []
    events = thinned(watched(study).sort("config_id", "run_id"), most=MOST_ARM, over="config_id")
    for axis in study.axes[:MOST_AXES]:
        levels = [level for level in study.levels(axis) if level is not None]
        for i in [i + 1 for i in evenly(max(len(levels) - 1, 0), most=MOST_CONTRASTS)]:
            arms = events.filter(pl.col(axis).is_in([levels[0], levels[i]])).sort(axis, "run_id")
            arms = thinned(arms, most=MOST_ARM, over=axis)
            try:
                found = compare(arms, arm=axis, between=(levels[0], levels[i]), at_step=study.horizon_steps).table
            except AnalysisError:
                continue
            told = f"{value_text(levels[i])} against {value_text(levels[0])}"
            parts.append(found.with_columns(axis=pl.lit(axis), contrast=pl.lit(told)))
    if not parts:
        return pl.DataFrame()
    rows = pl.concat(parts).filter(pl.col("effect").is_in(list(SHOWN)))
    rows = rows.with_columns(pl.col("estimate", "lo", "hi", "p").fill_nan(None))
    adjusted = [_adjusted(part) for part in rows.partition_by("effect", maintain_order=True)]
    columns = ("axis", "contrast", "effect", "estimate", "lo", "hi", "p", "p_adjusted", "family", "adjustment")
    return pl.concat(adjusted).select(*columns, "n_first", "n_second")


def _adjusted(rows: pl.DataFrame) -> pl.DataFrame:
    method: Literal["holm", "bh"] = "holm" if rows["p"].drop_nulls().len() <= MOST_DECLARED else "bh"
    return adjust(rows, family=f"{rows['effect'][0]}, every level against its axis's first", method=method)


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """A panel an effect, a row a contrast; filled marks have an adjusted p below .05."""
    if table.is_empty():
        return style.sentence(NOTHING)
    names = table.select("axis", "contrast").unique(maintain_order=True)
    effects = [effect for effect in SHOWN if effect in set(table["effect"])]
    labels = [f"{short(axis)}: {contrast}" for axis, contrast in names.iter_rows()]
    beside = max(2.2, max(map(len, labels)) / style.LETTERS_AN_INCH)
    figure = style.new_figure(beside + 2.0 * len(effects), 1.0 + 0.26 * names.height)
    grid = figure.subplots(1, len(effects), sharey=True, squeeze=False)[0]
    for axes, effect in zip(grid, effects, strict=True):
        rows = names.join(table.filter(pl.col("effect") == effect), on=["axis", "contrast"], maintain_order="left")
        is_ratio = effect != "risk difference"
        axes.axvline(1 if is_ratio else 0, color=style.QUIET, linestyle=":", linewidth=1)
        if is_ratio:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlim(*_ratio_limits(rows))
        else:
            axes.set_xlim(-1.05, 1.05)
        for place, row in enumerate(rows.iter_rows(named=True)):
            _mark(axes, row, place=place)
        axes.set_title(SHOWN[effect])
    grid[0].set_yticks(range(names.height), labels, fontsize=8)
    grid[0].set_ylim(names.height - 0.5, -0.5)
    return figure


def _mark(axes, row, *, place) -> None:  # type: ignore[no-untyped-def]
    low_edge, high_edge = axes.get_xlim()
    if row["estimate"] is None or not low_edge <= row["estimate"] <= high_edge:
        axes.text(0.5, place, "not estimated" if row["estimate"] is None else "off the axis", fontsize=7, va="center",
                  ha="center", color=style.QUIET, transform=axes.get_yaxis_transform())  # fmt: skip
        return
    low, high = (row[end] if row[end] is not None else edge for end, edge in (("lo", low_edge), ("hi", high_edge)))
    axes.plot([max(low, low_edge), min(high, high_edge)], [place] * 2, color=style.BLUE, linewidth=1.2)
    is_clear = row["p_adjusted"] is not None and row["p_adjusted"] < 0.05
    is_few = min(row["n_first"], row["n_second"]) < FEWEST
    face = style.BLUE if is_clear else "white"
    axes.plot(row["estimate"], place, "s" if is_few else "o", color=style.BLUE, markerfacecolor=face, markersize=5)


def _ratio_limits(rows: pl.DataFrame) -> tuple[float, float]:
    """Around every estimate and every end within eight times of one."""
    ends = pl.concat([rows[name] for name in ("estimate", "lo", "hi")]).drop_nulls()
    ends = ends.filter(ends.is_between(0.125, 8.0))
    low, high = (float(f) if f is not None else 1.0 for f in (ends.min(), ends.max()))  # type: ignore[arg-type]
    return min(low, 0.5) / 1.15, max(high, 2.0) * 1.15


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """Which tests, which family, how adjusted."""
    families = sorted(set(table.filter(pl.col("p").is_not_null())["family"])) if table.height else []
    adjustments = sorted(set(table["adjustment"])) if table.height else []
    return (
        f"Each level against its axis's first, pooled over the other axes; bars are 95% intervals, cut at the edge. "
        f"Filled: p below .05, adjusted by {' and '.join(adjustments)} within a family ({'; '.join(families)}); odds "
        f"and ERT ratios have intervals alone. Squares: an arm of fewer than {FEWEST} runs. Time ratio: given a "
        "eureka. Chosen by the sweep's axes, not declared beforehand."
    )
