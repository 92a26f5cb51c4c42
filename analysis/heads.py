"""Where each head attends, before a run's event and after: a figure from the readings of `eureka probe`.

    python -m analysis.heads STORE SWEEP heads.svg        for runs probed with {name: attention} at two steps or more

Heads of different runs have no common order: within a layer they are sorted by how much of their attention is on the
row at the last step, and keep that order at the step before.
"""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from analysis.errors import AnalysisError
from analysis.figures import style
from analysis.figures.by_hand import command, keep
from analysis.store import Store

WORDS = {"on_row": "same row", "on_column": "same column", "on_observed": "entries shown", "on_self": "itself"}
MOST_RUNS = 6
SORTED_BY = "on_row"


class NotProbed(AnalysisError):
    """The store has no readings of attention for these runs."""


def table(probes: pl.DataFrame, *, runs: list[str] | None = None) -> pl.DataFrame:
    """Attention of each head of each run at its first and last step that were probed.

    Args:
        probes: PROBES rows.
        runs: run_ids, in the order in which they are shown; None is all.

    Returns:
        One row a (run, when, layer, place, kind): run_id, when (`first`, `last`), step [steps], layer, place (of the
        head among its layer's, from 0), head, kind, share [fraction].

    Raises:
        NotProbed: no run was probed at two steps.
    """
    rows = probes.filter(
        (pl.col("intervention") == "attention") & (pl.col("options") == "{}") & pl.col("metric").is_in(WORDS)
    )
    rows = rows.unique(["run_id", "step", "layer", "head", "metric"], keep="first", maintain_order=True)
    steps = rows.group_by("run_id", maintain_order=True).agg(first=pl.col("step").min(), last=pl.col("step").max())
    steps = steps.filter(pl.col("first") < pl.col("last"))
    if runs is not None:
        steps = steps.filter(pl.col("run_id").is_in(runs))
    if steps.is_empty():
        expected = "readings of {name: attention} at two steps of a run; `eureka probe` makes them"
        raise NotProbed(f"heads: got none; expected {expected}")
    ends = steps.unpivot(["first", "last"], index="run_id", variable_name="when", value_name="step")
    rows = rows.join(ends, on=["run_id", "step"], how="inner", maintain_order="left")
    key = rows.filter((pl.col("when") == "last") & (pl.col("metric") == SORTED_BY))
    place = pl.col("value").rank("ordinal", descending=True).over("run_id", "layer") - 1
    places = key.select("run_id", "layer", "head", place=place.cast(pl.Int64))
    found = rows.join(places, on=["run_id", "layer", "head"]).rename({"metric": "kind", "value": "share"})
    order = {run: index for index, run in enumerate(runs or steps["run_id"].to_list())}
    found = found.with_columns(order=pl.col("run_id").replace_strict(order, return_dtype=pl.Int64))
    columns = ("run_id", "when", "step", "layer", "place", "head", "kind", "share")
    return found.sort("order", "when", "kind", "layer", "place").select(columns)


def draw(table: pl.DataFrame) -> Figure:
    """A row of panels a kind, a pair of columns a run: heads down, before on the left and after on the right."""
    chosen = table["run_id"].unique(maintain_order=True).to_list()[:MOST_RUNS]
    with style.look():
        figure = style.new_figure(1.3 + 1.15 * len(chosen), 6.4)
        grid = figure.subplots(len(WORDS), len(chosen), squeeze=False, sharey=True)
        for column, run in enumerate(chosen):
            own = table.filter(pl.col("run_id") == run)
            for row, kind in enumerate(WORDS):
                axes = grid[row, column]
                matrix, labels, steps = _matrix(own.filter(pl.col("kind") == kind))
                image = axes.imshow(matrix, vmin=0, vmax=1, cmap="viridis", aspect="auto")
                for (y, x), share in np.ndenumerate(matrix):
                    axes.text(
                        x,
                        y,
                        f"{share:.2f}",
                        ha="center",
                        va="center",
                        fontsize=6,
                        color="white" if share < 0.6 else "black",
                    )
                axes.set_yticks(range(len(labels)), labels, fontsize=6)
                axes.set_xticks(
                    [0, 1], [f"{step:,}" for step in steps] if row == len(WORDS) - 1 else ["", ""], fontsize=7
                )
                axes.tick_params(length=0)
                if row == 0:
                    axes.set_title(run[:8], fontsize=8)
        for row, words in enumerate(WORDS.values()):
            grid[row, 0].set_ylabel(f"on the {words}" if words.startswith("same") else f"on {words}", fontsize=8)
        figure.supxlabel("updates made before, after [steps]", fontsize=9)
        figure.colorbar(image, ax=grid, label="share of attention [fraction]", fraction=0.03)
    return figure


def _matrix(rows: pl.DataFrame) -> tuple[np.ndarray, list[str], list[int]]:
    """Heads down, first and last step across; where layers begin, and both steps."""
    rows = rows.sort("layer", "place")
    ends = [rows.filter(pl.col("when") == when) for when in ("first", "last")]
    labels = [f"layer {layer}" if place == 0 else "" for layer, place in ends[0].select("layer", "place").iter_rows()]
    return np.stack([end["share"].to_numpy() for end in ends], axis=1), labels, [end["step"][0] for end in ends]


def main(store: str, sweep: str, out: str) -> None:
    """Draw a sweep's figure, and write its table beside it."""
    opened = Store(store)
    found = table(pl.DataFrame(pl.from_arrow(opened.probes.table())), runs=opened.sweep(sweep)["runs"])
    keep(found, draw=draw, out=out)


if __name__ == "__main__":
    command("heads", main)
