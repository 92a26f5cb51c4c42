"""Learned positions of matrix entries, before a run's event and at its end: principal components and t-SNE.

    python -m analysis.positions STORE SWEEP positions.svg        for runs of matrix tasks with snapshots

Before is the last snapshot after at most three quarters of the updates at which the event was seen. Colour is an
entry's column, its marker the row. t-SNE's picture is one of many, drawn with a fixed seed; what it suggests is
measured by the silhouettes of rows and of columns, between -1 and 1, among the vectors themselves.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.errors import AnalysisError
from analysis.figures import style
from analysis.figures.by_hand import command, keep
from analysis.models.optional import package
from analysis.store import Store

Array = npt.NDArray[np.float64]
TABLE = "positions.table"  # the parameter
BEFORE = 0.75  # of the event's step, as `eureka probe` has it
PERPLEXITY = 5.0  # of t-SNE: about so many neighbours count, or a third of the entries where there are few
MOST_RUNS = 3
VIEWS = {"components": "principal components", "tsne": "t-SNE"}


class NoPositions(AnalysisError):
    """No run has learned positions of matrix entries to show."""


def placed(vectors: Array, *, columns: int) -> pl.DataFrame:
    """Entries' places in the plane, by both views.

    Args:
        vectors: one an entry, row by row of the matrix `(entries, D)`.
        columns: of the matrix.

    Returns:
        One row an (entry, view): view (`components`, `tsne`), row, column, x, y; share, what the two components
        explain of the variance [fraction], NaN for t-SNE; of_rows, of_columns, the silhouettes by cosine [1], NaN
        where there is but one row or column, or one entry in each.

    Source: van der Maaten and Hinton 2008, J. Mach. Learn. Res. 9:2579; Rousseeuw 1987, J. Comput. Appl. Math. 20:53.
    Both computed by scikit-learn.
    Checked by: test_positions.py::test_entries_of_a_column_that_are_alike_lie_together
    """
    manifold = package("sklearn.manifold", extra="surface", wanted_by="positions")
    centred = vectors - vectors.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    embedded = manifold.TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(centred)
    entry = np.arange(len(vectors))
    row, column = entry // columns, entry % columns
    squares = np.square(sizes)
    shared = {
        "row": row,
        "column": column,
        "of_rows": _silhouette(centred, row),
        "of_columns": _silhouette(centred, column),
    }
    views = {
        "components": (left[:, :2] * sizes[:2], squares[:2].sum() / squares.sum()),
        "tsne": (embedded, np.nan),
    }
    parts = [
        pl.DataFrame({"view": view, "x": at[:, 0], "y": at[:, 1], "share": float(share), **shared})
        for view, (at, share) in views.items()
    ]
    return pl.concat([part.cast({"x": pl.Float64, "y": pl.Float64}) for part in parts])


def _silhouette(vectors: Array, groups: npt.NDArray[np.int64]) -> float:
    if not 1 < len(np.unique(groups)) < len(vectors):
        return float("nan")
    metrics = package("sklearn.metrics", extra="surface", wanted_by="positions")
    return float(metrics.silhouette_score(vectors, groups, metric="cosine"))


def table(store: Store, *, runs: Sequence[str]) -> pl.DataFrame:
    """`placed` of each run, before its event and at its last snapshot, with run_id, when (`before`, `end`) and step.

    Raises:
        NoPositions: no run has an event, a snapshot before it, and positions of a matrix's entries.
    """
    wanted = ["run_id", "online_event_step", "task.columns", "task.rows"]
    ledger = {row["run_id"]: row for row in store.runs_table(wanted).to_pylist()}
    kept = store.snapshots.there()
    parts = []
    for run in (run for run in runs if run in ledger):
        event, columns = ledger[run]["online_event_step"], ledger[run].get("task.columns")
        steps = sorted(step for one, step in kept if one == run)
        early = [step for step in steps if event is not None and step <= BEFORE * event]
        if not early or columns is None:
            continue
        for when, step in (("before", early[-1]), ("end", steps[-1])):
            vectors = store.snapshots.load(run, step).get(TABLE)
            if vectors is not None and len(vectors) == columns * ledger[run]["task.rows"]:
                about = {"run_id": pl.lit(run), "when": pl.lit(when), "step": pl.lit(step)}
                parts.append(placed(vectors.astype(float), columns=columns).with_columns(**about))
    if not parts:
        raise NoPositions(
            "positions: got none; expected runs of a matrix task with an event, learned positions, and snapshots"
            " before the event and after (log.snapshots)"
        )
    first = ("run_id", "when", "step")
    return pl.concat(parts).select(*first, pl.exclude(first))


def draw(table: pl.DataFrame) -> Figure:
    """Two rows a run: before, and at the end; both views side by side."""
    runs = table["run_id"].unique(maintain_order=True).to_list()[:MOST_RUNS]
    with style.look():
        figure = style.new_figure(0.6 + 2.3 * 2 * len(runs), 4.9)
        grid = figure.subplots(2, 2 * len(runs), squeeze=False)
        for number, run in enumerate(runs):
            for line, when in enumerate(("before", "end")):
                for place, view in enumerate(VIEWS):
                    own = table.filter((pl.col("run_id") == run) & (pl.col("when") == when) & (pl.col("view") == view))
                    _panel(grid[line, 2 * number + place], own, name=VIEWS[view] if line == 0 else "")
            grid[0, 2 * number].text(0, 1.14, f"run {run[:8]}", transform=grid[0, 2 * number].transAxes, fontsize=9)
        figure.supxlabel("colour: the entry's column; marker: its row", fontsize=9)
    return figure


def _panel(axes: Axes, rows: pl.DataFrame, *, name: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(name, fontsize=8, loc="left")
    if rows.is_empty():
        axes.text(0.5, 0.5, "not kept", transform=axes.transAxes, ha="center", color=style.QUIET)
        return
    colours: Any = style.ramp([str(column) for column in range(rows["column"].n_unique())])
    for row, column, x, y in rows.select("row", "column", "x", "y").iter_rows():
        axes.plot(x, y, style.MARKERS[row % len(style.MARKERS)], color=colours[column], markersize=6)
    share = rows["share"][0]
    explained = f"; {share:.0%} explained" if share == share else ""  # noqa: PLR0124  (NaN is not itself)
    of_rows, of_columns = rows["of_rows"][0], rows["of_columns"][0]
    where = f"step {rows['step'][0]:,}{explained}"
    axes.set_xlabel(f"{where}\nsilhouettes: rows {of_rows:.2f}, columns {of_columns:.2f}", fontsize=7)
    axes.margins(0.12)


def main(store: str, sweep: str, out: str) -> None:
    """Draw a sweep's figure, and write its table beside it."""
    opened = Store(store)
    found = table(opened, runs=opened.sweep(sweep)["runs"])
    keep(found, draw=draw, out=out)


if __name__ == "__main__":
    command("positions", main)
