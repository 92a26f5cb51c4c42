"""The figure of positions: both views of planted vectors, which snapshots are before and after, and what it needs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from analysis.positions import TABLE, NoPositions, draw, main, placed, table
from analysis.store import Store

ROWS, COLUMNS = 3, 4


def by_column(*, noise: float = 0.01) -> np.ndarray:
    """Entries of a column share a direction."""
    rng = np.random.default_rng(0)
    directions = np.eye(COLUMNS, 8)
    return np.tile(directions, (ROWS, 1)) + noise * rng.normal(size=(ROWS * COLUMNS, 8))


def store_of(**kept: dict[int, np.ndarray] | None) -> Any:
    """A store's two readings: runs with an event at step 100, and snapshots of their positions."""
    ledger = pa.table({
        "run_id": list(kept), "online_event_step": [None if steps is None else 100 for steps in kept.values()],
        "task.columns": [COLUMNS] * len(kept), "task.rows": [ROWS] * len(kept),
    })  # fmt: skip
    weights = {(run, step): {TABLE: vectors} for run, steps in kept.items() for step, vectors in (steps or {}).items()}
    snapshots = SimpleNamespace(there=lambda: list(weights), load=lambda run, step: weights[run, step])
    return SimpleNamespace(runs_table=ledger.select, snapshots=snapshots)


def test_entries_of_a_column_that_are_alike_lie_together():
    found = placed(by_column(), columns=COLUMNS)
    assert found["of_columns"][0] > 0.95
    assert found["of_rows"][0] < 0
    for (view,), rows in found.group_by("view"):
        at, column = rows.select("x", "y").to_numpy(), rows["column"].to_numpy()
        apart = np.linalg.norm(at[:, None] - at[None], axis=-1)
        same = column[:, None] == column[None]
        if view == "components":
            assert rows["share"][0] == pytest.approx(2 / 3, abs=0.01)  # of three directions that are left
        nearest = np.where(np.eye(len(at), dtype=bool), np.inf, apart).argmin(1)
        assert same[np.arange(len(at)), nearest].all(), view
    assert found.filter(pl.col("view") == "tsne").select("row", "column").rows()[5] == (1, 1)


def test_views_are_the_same_each_time():
    first, again = (placed(by_column(noise=0.3), columns=COLUMNS) for _ in range(2))
    assert first.equals(again, null_equal=True) or np.allclose(first["x"], again["x"])


def test_one_row_has_no_silhouette_of_rows():
    found = placed(by_column()[:COLUMNS], columns=COLUMNS)
    assert np.isnan(found["of_rows"][0])
    assert np.isnan(found["of_columns"][0])  # one entry in each


def test_before_is_at_most_three_quarters_of_the_events_step():
    vectors = by_column()
    store = store_of(a={0: vectors, 75: vectors, 76: vectors, 200: vectors}, b=None, c={80: vectors, 200: vectors})
    found = table(store, runs=["b", "c", "a", "elsewhere"])
    assert found.select("run_id", "when", "step").unique(maintain_order=True).rows() == [
        ("a", "before", 75), ("a", "end", 200),
    ]  # fmt: skip


@pytest.mark.parametrize("kept", [{"a": None}, {"a": {0: by_column()[:5], 9: by_column()[:5]}}])
def test_runs_without_an_event_or_with_other_positions_have_no_figure(kept: dict[str, Any]):
    with pytest.raises(NoPositions, match=r"expected runs of a matrix task with an event, learned positions"):
        table(store_of(**kept), runs=["a"])


def test_the_figure_has_a_panel_a_run_a_step_and_a_view(tmp_path: Path):
    steps = {0: by_column(noise=1.0), 200: by_column()}
    figure = draw(table(store_of(a=steps, b=steps), runs=["a", "b"]))
    assert [len(axes.lines) for axes in figure.axes] == [ROWS * COLUMNS] * 8
    assert "step 200" in figure.axes[-1].get_xlabel()
    store = Store.create(tmp_path / "store")
    store.save_sweep({"name": "sweep", "runs": ["r1"]})
    with pytest.raises(NoPositions):
        main(str(store.path), "sweep", str(tmp_path / "positions.svg"))
    assert not (tmp_path / "positions.svg").exists()
