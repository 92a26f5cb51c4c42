"""A search as it went: every trial with its interval, the best so far, and what was being trained when."""

from collections.abc import Mapping

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures import style
from analysis.figures.search_words import objective_words
from analysis.study import Study

NAME, TITLE = "search_history", "How did the search go?"
NOTHING = "No search, or nothing of it told yet."


def table(study: Study) -> pl.DataFrame:
    """One row a trial and objective, in the order told.

    Returns:
        objective; trial; round; state; runs, told_runs: of it, and of all told so far [runs]; value, low, high; best:
        so far; asked, told: since the first was asked [min].
    """
    search = study.search
    if search is None:
        return pl.DataFrame()
    first = search.trials["asked_at"].min()
    since = [((pl.col(f"{name}_at") - first).dt.total_seconds() / 60).alias(name) for name in ("asked", "told")]
    parts = []
    for label, is_more in search.objectives.items():
        rows = search.told(label)
        if rows.is_empty():
            continue
        best = pl.col("value").cum_max() if is_more else pl.col("value").cum_min()
        told_runs = pl.col("runs").cum_sum().alias("told_runs")
        parts.append(
            rows.select(
                pl.lit(label).alias("objective"), "trial", "round", "state", "runs", told_runs, "value", "low", "high",
                best.alias("best"), *since,
            )
        )  # fmt: skip
    return pl.concat(parts) if parts else pl.DataFrame()


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """A panel an objective over the runs told, and one of when each trial was under way."""
    if table.is_empty():
        return style.sentence(NOTHING)
    labels = table["objective"].unique(maintain_order=True).to_list()
    figure, (*panels, when) = style.separate(len(labels) + 1, columns=2, width=3.9, height=2.9)
    for axes, label in zip(panels, labels, strict=True):
        rows = table.filter(pl.col("objective") == label)
        x, y = rows["told_runs"].to_numpy(), rows["value"].to_numpy()
        ends = rows.select(low=pl.col("low").fill_null(pl.col("value")), high=pl.col("high").fill_null(pl.col("value")))
        axes.vlines(x, ends["low"].to_numpy(), ends["high"].to_numpy(), color=style.FAINT, linewidth=1)
        axes.scatter(x, y, s=14, color=style.BLUE, zorder=3)
        if _has_best(study):
            axes.step(x, rows["best"].to_numpy(), where="post", color=style.ORANGE, linewidth=1.6, zorder=2)
        axes.set_xlabel("runs told of")
        axes.set_ylabel(objective_words(label))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _draw_when(when, table.filter(pl.col("objective") == labels[0]))
    return figure


def _draw_when(axes: Axes, rows: pl.DataFrame) -> None:
    unit, per = ("h", 60.0) if float(rows["told"].max()) > 180 else ("min", 1.0)  # type: ignore[arg-type]
    asked, told = (rows[name].to_numpy() / per for name in ("asked", "told"))
    rounds = rows["round"].unique().sort().to_list()
    shades: Mapping[int, object] = dict(zip(rounds, style.ramp(rounds), strict=True))
    axes.hlines(rows["trial"].to_numpy(), asked, told, colors=[shades[r] for r in rows["round"]], linewidth=1.6)
    axes.set_xlabel(f"since the first was asked [{unit}]")
    axes.set_ylabel("trial, asked to told")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlim(left=0)


def _has_best(study: Study) -> bool:
    """Whether it was the best that was searched for."""
    return study.search is not None and study.search.name not in ("boundary", "replicates")


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """Who asked, for what."""
    assert study.search is not None
    best = (
        "; the line: the best so far (of values, so it flatters: the best of many is partly luck)"
        if _has_best(study)
        else ""
    )
    return (
        f"{study.search.name}: {table['trial'].n_unique()} trials told in {table['round'].n_unique()} rounds. Dots: a "
        f"trial's value as the search was told it, with its 95% interval{best}. Last panel: when each trial was asked "
        "and told, in the colour of its round."
    )
