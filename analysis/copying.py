"""Does a model copy what is shown, or complete what is missing? A figure from the readings of `eureka probe`.

    python -m analysis.copying STORE SWEEP copying.svg     for runs probed with {name: substitute} and {name: alter}

Steps are counted in units of the step at which the online rule saw a run's event; runs without one are left out.
"""

import math

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.errors import AnalysisError
from analysis.figures import style
from analysis.figures.by_hand import command, keep
from analysis.store import Store

#        panel, curve: intervention, options, item, metric
CURVES = {
    ("a number instead", "that number"): ("substitute", "{}", "", "follows_shown"),
    ("a number instead", "half a number"): ("substitute", '{"blend":0.5}', "", "follows_shown"),
    ("missing", "the right number"): ("substitute", "{}", "missing", "follows_right"),
    ("hidden", "the right number"): ("alter", "{}", "hidden", "follows_right"),
    ("turned", "the number shown"): ("alter", "{}", "turned", "follows_right"),
    ("turned", "elsewhere"): ("alter", "{}", "turned", "share_at_missing"),
}
TITLES = {
    "a number instead": "a number is shown where one is missing",
    "missing": "an entry is missing, and said to be",
    "hidden": "an entry that was shown is hidden",
    "turned": "an entry that was shown has the other sign",
}
WORDS = {
    "that number": "its answer on that number",
    "half a number": "the same, half-way between the words' vectors",
    "the right number": "its answer on the right number",
    "the number shown": "its answer on the number shown",
    "elsewhere": "how far answers at missing entries move",
}
COLOURS, DASHES = (style.VERMILLION, style.BLUE), ("-", "--")


class NotProbed(AnalysisError):
    """The store has no readings of copying for these runs."""


def table(probes: pl.DataFrame, *, runs: pl.DataFrame) -> pl.DataFrame:
    """How far answers follow what is shown and what is right, snapshot by snapshot.

    Args:
        probes: PROBES rows.
        runs: run_id and online_event_step of the runs wanted, in their order.

    Returns:
        One row a (run, curve, step): run_id, panel, curve, step [steps], of_event (the same in units of the event's
        step), value [slope, or share].

    Raises:
        NotProbed: no run with an event was probed.
    """
    own = pl.col("options").str.replace(r'"numbers":"[^"]*",?', "").str.replace(",}", "}", literal=True)
    found = []
    for (panel, curve), (intervention, options, item, metric) in CURVES.items():
        rows = probes.filter(
            (pl.col("intervention") == intervention)
            & (own == options)
            & (pl.col("item") == item)
            & (pl.col("metric") == metric)
        )
        value = -pl.col("value") if (panel, curve) == ("turned", "the number shown") else pl.col("value")
        found.append(rows.select("run_id", "step", panel=pl.lit(panel), curve=pl.lit(curve), value=value))
    rows = pl.concat(found).unique(["run_id", "panel", "curve", "step"], keep="first", maintain_order=True)
    events = runs.with_row_index("order").drop_nulls("online_event_step")
    rows = rows.join(events, on="run_id", how="inner")
    if rows.is_empty():
        expected = "readings of {name: substitute} and {name: alter}, of runs with an event; `eureka probe` makes them"
        raise NotProbed(f"copying: got none; expected {expected}")
    place = {key: index for index, key in enumerate(f"{panel}/{curve}" for panel, curve in CURVES)}
    rows = rows.with_columns(
        of_event=pl.col("step") / pl.col("online_event_step"),
        place=(pl.col("panel") + "/" + pl.col("curve")).replace_strict(place, return_dtype=pl.Int64),
    )
    return rows.sort("order", "place", "step").select("run_id", "panel", "curve", "step", "of_event", "value")


def draw(table: pl.DataFrame) -> Figure:
    """A panel an intervention, a thin line a run."""
    with style.look():
        panels = [panel for panel in TITLES if panel in set(table["panel"])]
        figure = style.new_figure(7.2, 2.6 * math.ceil(len(panels) / 2) + 0.3)
        grid = figure.subplots(math.ceil(len(panels) / 2), 2, squeeze=False, sharex=True, sharey=True).flatten()
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes, panel in zip(grid, panels, strict=False):
            _panel(axes, table.filter(pl.col("panel") == panel), title=TITLES[panel])
        figure.supylabel("slope, or share of these numbers' size [1]", fontsize=9)
        figure.supxlabel(f"updates made, the event's step being 1; {table['run_id'].n_unique()} runs", fontsize=9)
    return figure


def _panel(axes: Axes, rows: pl.DataFrame, *, title: str) -> None:
    axes.axvline(1, color=style.FAINT, linewidth=1.2)
    for index, ((curve,), own) in enumerate(rows.group_by("curve", maintain_order=True)):
        for number, line in enumerate(own.partition_by("run_id", maintain_order=True)):
            label = WORDS[str(curve)] if number == 0 else "_"
            axes.plot(line["of_event"], line["value"], DASHES[index], color=COLOURS[index], linewidth=0.9, label=label)
    axes.set_title(title, fontsize=9)
    axes.legend(loc="upper left", fontsize=8)
    axes.set_ylim(-0.2, 1.6)  # room for the legend
    axes.set_yticks([0, 0.5, 1])
    axes.grid(axis="y", color=style.FAINT, linewidth=0.6)


def main(store: str, sweep: str, out: str) -> None:
    """Draw a sweep's figure, and write its table beside it."""
    opened = Store(store)
    wanted = opened.sweep(sweep)["runs"]
    ledger = pl.DataFrame(pl.from_arrow(opened.runs_table(["run_id", "online_event_step"])))
    runs = pl.DataFrame({"run_id": wanted}).join(ledger, on="run_id", how="inner", maintain_order="left")
    found = table(pl.DataFrame(pl.from_arrow(opened.probes.table())), runs=runs)
    keep(found, draw=draw, out=out)


if __name__ == "__main__":
    command("copying", main)
