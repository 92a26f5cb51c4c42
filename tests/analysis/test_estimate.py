"""Tables of estimates: nothing planned is lost from the counts, and failures stay out of the estimates."""

import polars as pl
import pytest
from demo import demo_study
from test_survival import events

from analysis.estimate import COUNTS, ESTIMATES, config_table, level_table
from analysis.interval import binomial_interval


@pytest.fixture(scope="module")
def study():
    return demo_study()


@pytest.fixture(scope="module")
def table(study):
    return config_table(study.events, axes=study.axes, at_step=study.horizon_steps, planned=study.planned_cells)


def test_every_planned_run_is_counted_once(study, table):
    assert table.select(pl.sum_horizontal(*COUNTS, "waiting").sum()).item() == study.planned == 96
    assert table["waiting"].sum() == study.waiting == 5
    assert table["failed"].sum() == 2


def test_configs_come_in_the_order_of_the_axes(study, table):
    cells = list(table.select(study.axes).iter_rows())
    assert len(cells) == 12
    assert cells == sorted(cells)


def test_chance_is_k_over_n_where_all_budgets_are_equal(table):
    for row in table.iter_rows(named=True):
        assert row["chance"] == pytest.approx(row["eureka"] / row["n"])
        assert (row["chance_lo"], row["chance_hi"]) == pytest.approx(
            binomial_interval(row["eureka"], n=row["n"]), abs=1e-6
        )


def test_estimates_lie_in_their_intervals(table):
    for name in ("chance", "median", "restricted_mean", "steps_per_eureka"):
        value = pl.col("median_step" if name == "median" else name)
        inside = (pl.col(f"{name}_lo").fill_null(value) <= value) & (value <= pl.col(f"{name}_hi").fill_null(value))
        assert table.filter(value.is_not_null()).select(inside.all()).item()


def test_failed_runs_are_counted_and_in_no_estimate():
    found = config_table(events([10, 100, 50], "ecf", arm=["a"] * 3), axes=["arm"], at_step=100).row(0, named=True)
    assert (found["n"], found["failed"], found["chance"]) == (2, 1, 0.5)


def test_a_config_with_failed_runs_only_has_a_row_and_no_estimate():
    rows = events([10, 100, 50, 60], "ecff", arm=["a", "a", "b", "b"])
    found = config_table(rows, axes=["arm"], at_step=100).row(1, named=True)
    assert (found["arm"], found["n"], found["failed"]) == ("b", 0, 2)
    assert all(found[name] is None for name in ESTIMATES)


def test_planned_configs_without_a_run_have_a_row():
    planned = pl.DataFrame({"arm": ["a", "b"], "planned": [2, 2]})
    found = config_table(events([10, 100], "ec", arm=["a", "a"]), axes=["arm"], at_step=100, planned=planned)
    assert found["waiting"].to_list() == [0, 2]
    assert found["n"].to_list() == [2, 0]


def test_configs_outside_the_plan_keep_their_row():
    planned = pl.DataFrame({"arm": ["a"], "planned": [2]})
    found = config_table(events([10, 100], "ec", arm=["a", "b"]), axes=["arm"], at_step=100, planned=planned)
    assert found.select("arm", "n", "waiting").rows() == [("a", 1, 1), ("b", 1, 0)]


def test_axes_are_joined_from_runs_where_events_lack_them():
    rows = events([10, 100], "ec").with_columns(run_id=pl.Series(["x", "y"]))
    runs = pl.DataFrame({"run_id": ["y", "x"], "optim.lr": [0.1, 0.2]})
    found = config_table(rows, axes=["optim.lr"], at_step=100, runs=runs)
    assert found.select("optim.lr", "chance").rows() == [(0.1, 0.0), (0.2, 1.0)]


def test_a_null_setting_is_a_level_of_its_own():
    found = config_table(events([10, 20, 100], "eec", arm=[None, 1.0, None]), axes=["arm"], at_step=100)
    assert found.select("arm", "n", "chance").rows() == [(1.0, 1, 1.0), (None, 2, 0.5)]


def test_without_axes_one_row_holds_all_runs(study):
    found = config_table(study.events, axes=(), at_step=study.horizon_steps)
    assert found.height == 1
    assert found["n"][0] == 89


def test_level_tables_pool_over_the_other_axes(study):
    found = level_table(study.events, axis="optim.lr", at_step=study.horizon_steps)
    assert found["n"].sum() == 89
    assert found["value"].to_list() == [1e-4, 3e-4, 1e-3, 3e-3]
