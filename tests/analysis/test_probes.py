"""PROBES in a store: whole files, each probe once; means and intervals over runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from analysis.errors import StoreError
from analysis.probe_table import means
from analysis.probes import PROBES, Probes
from analysis.store import Store
from analysis.upkeep import check

ROW: dict[str, Any] = {
    "probe_id": "a", "run_id": "r", "step": 5, "intervention": "plain", "options": "{}", "examples": 8, "seed": 0,
    "layer": None, "head": None, "item": "", "metric": "loss", "value": 1.0,
}  # fmt: skip


def rows(*values: float, **changes: Any) -> list[dict[str, Any]]:
    return [{**ROW, "metric": f"m{i}", "value": value, **changes} for i, value in enumerate(values)]


def test_what_was_added_is_read_again(tmp_path: Path):
    store = Store.create(tmp_path / "store")
    assert store.probes.known() == set()
    assert len(store.probes.table()) == 0
    store.probes.add("1", [*rows(1.0, float("nan")), *rows(2.0, probe_id="b", layer=1, head=0)])
    store.probes.add("2", rows(3.0, probe_id="c"))
    assert store.probes.known() == {"a", "b", "c"}
    found = store.probes.table()
    assert found.column_names == [column.name for column in PROBES]
    np.testing.assert_equal(found["value"].to_pylist(), [1.0, float("nan"), 2.0, 3.0])
    assert found["head"].to_pylist() == [None, None, 0, None]


def test_a_probe_that_two_processes_computed_counts_once(tmp_path: Path):
    probes = Probes(tmp_path / "probes")
    probes.add("2", rows(9.0, 9.0))
    probes.add("1", [*rows(1.0, 2.0), *rows(5.0, probe_id="b")])
    assert probes.table()["value"].to_pylist() == [1.0, 2.0, 5.0]


def test_a_draft_that_was_left_behind_is_not_read_and_a_damaged_file_is_told(tmp_path: Path):
    store = Store.create(tmp_path / "store")
    probes = store.probes
    probes.add("1", rows(1.0))
    (probes.folder / ".2.parquet.0.tmp").write_bytes(b"half")
    assert probes.known() == {"a"}
    assert check(store) == []
    (probes.folder / "3.parquet").write_bytes(b"half")
    with pytest.raises(StoreError, match="not readable"):
        probes.known()
    [problem] = check(store)
    assert problem.startswith(f"{probes.folder / '3.parquet'}: not readable")
    assert problem.endswith("remove the file, and `eureka probe` computes it again")


def test_means_and_intervals_equal_scipys():
    values = np.array([0.2, 0.9, 0.4, 0.5])
    table = pl.DataFrame([row | {"run_id": str(i), "at": "end"} for i, v in enumerate(values) for row in rows(v)])
    [found] = means(table).to_dicts()
    wanted = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found["lo"], found["hi"]) == (pytest.approx(wanted.low), pytest.approx(wanted.high))
    assert (found["mean"], found["runs"]) == (pytest.approx(values.mean()), 4)
    narrower = means(table, level=0.5).to_dicts()[0]
    assert found["lo"] < narrower["lo"] < narrower["hi"] < found["hi"]


def test_one_run_has_no_interval_and_what_is_no_number_is_counted_apart():
    given = [*rows(0.3, at="end"), *rows(float("nan"), at="end"), *rows(float("nan"), at="0")]
    found = means(pl.DataFrame(given)).to_dicts()
    assert [(row["at"], row["runs"], row["not_finite"]) for row in found] == [("end", 1, 1), ("0", 0, 1)]
    assert (found[0]["mean"], found[0]["lo"], found[0]["hi"]) == (0.3, None, None)
    assert found[1]["mean"] is None


def test_readings_that_differ_in_place_are_not_mixed():
    given = [row for layer in (0, 1, None) for head in (0, 1) for row in rows(1.0, at="end", layer=layer, head=head)]
    assert len(means(pl.DataFrame(given))) == 6
