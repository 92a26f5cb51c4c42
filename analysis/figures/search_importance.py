"""Which settings what a search scored depends on, with intervals."""

import polars as pl
from matplotlib.figure import Figure

from analysis.errors import AnalysisError
from analysis.figures import style
from analysis.figures.search_words import objective_words
from analysis.importance import importances
from analysis.labels import axis_label
from analysis.study import Study
from analysis.trials import PARAM

NAME, TITLE = "search_importance", "Which settings matter to what was searched for?"
NOTHING = "No importances: they take a search of two settings, twelve trials that differ, and the extra [surface]."


def table(study: Study) -> pl.DataFrame:
    """One row an objective and setting: objective; setting; importance, low, high [share of the variance]; n trials."""
    search = study.search
    if search is None or len(search.fields) < 2:
        return pl.DataFrame()
    parts = []
    for label in search.objectives:
        rows = search.told(label)
        settings = rows.select(pl.col(PARAM + field).alias(field) for field in search.fields)
        try:
            found = importances(settings, rows["value"].to_numpy() if rows.height else rows["trial"].to_numpy())
        except AnalysisError:  # no scikit-learn
            return pl.DataFrame()
        parts.append(found.select(pl.lit(label).alias("objective"), pl.all()))
    return pl.concat(parts) if parts else pl.DataFrame()


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """A panel an objective, the most important setting on top."""
    if table.is_empty():
        return style.sentence(NOTHING)
    labels = table["objective"].unique(maintain_order=True).to_list()
    most = table.group_by("objective").len()["len"].max()
    height = 0.7 + 0.32 * float(most)  # type: ignore[arg-type]
    figure, panels = style.separate(len(labels), columns=2, width=4.2 if len(labels) > 1 else 6.0, height=height)
    for axes, label in zip(panels, labels, strict=True):
        rows = table.filter(pl.col("objective") == label).sort("importance")
        y = range(rows.height)
        axes.axvline(0, color=style.FAINT, linewidth=1)
        axes.hlines(y, rows["low"], rows["high"], color=style.BLUE, linewidth=1.6)
        axes.scatter(rows["importance"], y, color=style.BLUE, s=26, zorder=3)
        axes.set_yticks(y, [axis_label(name) for name in rows["setting"]])
        axes.set_ylim(-0.6, rows.height - 0.4)
        axes.set_xlabel(f"importance for {objective_words(label)}\n[share of variance]")
    return figure


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What the number is."""
    n = int(table["n"].to_numpy().max())
    return (
        "Permutation importance of a random forest of the trials: how much its squared error on trials that it had not "
        f"seen grows when one setting's values are shuffled, over the variance of the values (n = {n} trials; dots: "
        "mean over 40 bootstrap samples of the trials, lines: the middle 95% of them). A setting whose line holds 0 "
        "may not matter, or was not varied enough; a search's trials are no even sample of its space."
    )
