"""Studies read what the store committed, and know what a sweep's axes are."""

import polars as pl
import pytest
from demo import demo_store, demo_study, simulate

from analysis import frames
from analysis.errors import AnalysisError
from analysis.study import open_study, study_of


def test_a_study_from_the_store_is_the_one_from_the_frames(tmp_path):
    options = {"replicates": 2, "lost": 1, "failed": 1}
    stored, direct = open_study(demo_store(tmp_path, **options), sweep="softness"), demo_study(**options)
    assert stored.events.sort("run_id").equals(direct.events.sort("run_id"))
    assert (stored.planned, stored.waiting, stored.axes) == (24, 1, direct.axes)


def test_rows_of_uncommitted_blocks_are_not_read(tmp_path):
    store = demo_store(tmp_path, replicates=1, outcomes="ec")
    before = frames.metrics(store).collect().height
    torn = next(iter((tmp_path / "metrics").glob("*.parquet")))
    torn.with_name("20990101T000000-torn.parquet").write_bytes(torn.read_bytes())
    assert frames.metrics(store).collect().height == before == frames.runs(store)["steps"].sum()


def test_rows_of_another_attempt_at_a_committed_run_are_not_read(tmp_path):
    store = demo_store(tmp_path, replicates=1, outcomes="e")
    committed = frames.metrics(store).collect()
    other = tmp_path / "other.parquet"
    committed.with_columns(block=pl.lit("20990101T000000-retry")).write_parquet(other)
    store.metrics_paths = lambda *_: [*type(store).metrics_paths(store), str(other)]
    assert frames.metrics(store).collect().height == committed.height


def test_runs_of_other_sweeps_are_not_read(tmp_path):
    store = demo_store(tmp_path, replicates=2, outcomes="e")
    wanted = store.sweep("softness")["runs"][:3]
    store.save_sweep(store.sweep("softness") | {"name": "part", "runs": wanted})
    study = open_study(store, sweep="part")
    assert set(study.events["run_id"]) == set(wanted) == set(study.metrics.collect()["run_id"])


def test_an_empty_store_is_a_study_of_waiting_runs(tmp_path):
    study = open_study(demo_store(tmp_path, replicates=2, lost=24, failed=0), sweep="softness")
    assert study.events.is_empty()
    assert study.waiting == 24


def test_axes_with_one_level_are_no_axes():
    study = demo_study({"optim.lr": [1e-3], "model.attention.temperature": [0.5, 2.0]}, replicates=2, outcomes="e")
    assert study.axes == ("model.attention.temperature",)


def test_text_levels_keep_the_sweeps_order():
    study = demo_study({"model.attention.name": ["softmax", "heat", "normsoftmax"]}, replicates=2, outcomes="ec")
    assert study.levels("model.attention.name") == ["softmax", "heat", "normsoftmax"]


def test_an_axis_over_mappings_is_the_columns_that_vary():
    runs, metrics, record = simulate({"model.attention.name": ["softmax", "heat"]}, replicates=2, outcomes="e")
    record["axes"] = {"model.attention": [{"name": "softmax"}, {"name": "heat"}]}
    study = study_of(runs, metrics=metrics.lazy(), record=record)
    assert study.axes == ("model.attention.name",)
    assert study.planned_cells is None


def test_fields_that_move_together_are_one_axis():
    axes = {"budget.batch": [32, 64], "optim.lr": [1e-3, 1e-4]}
    runs, metrics, record = simulate({"budget.batch": [32, 64]}, replicates=2, outcomes="e")
    lr = pl.when(pl.col("budget.batch") == 32).then(1e-3).otherwise(1e-4)
    record |= {"axes": axes, "zipped": [["budget.batch", "optim.lr"]]}
    study = study_of(runs.with_columns(lr.alias("optim.lr")), metrics=metrics.lazy(), record=record)
    assert study.axes == ("budget.batch",)


def test_an_axis_that_no_run_has_is_refused():
    runs, metrics, record = simulate(replicates=1, outcomes="e")
    with pytest.raises(AnalysisError, match=r"axis: got 'optim\.rl'; expected one of"):
        study_of(runs, metrics=metrics.lazy(), record=record | {"axes": {"optim.rl": [1, 2]}})


def test_planned_cells_are_the_full_grid():
    assert demo_study(replicates=2, lost=5, failed=0).planned_cells.height == 12


def test_fields_that_move_together_in_a_grid_of_pairs_are_two_axes():
    axes = {"budget.batch": [32, 32, 64, 64], "optim.lr": [1e-3, 1e-4, 1e-3, 1e-2]}
    runs, metrics, record = simulate({"budget.batch": [32, 64], "optim.lr": [1e-3, 1e-4]}, replicates=2, outcomes="e")
    record |= {"axes": axes, "zipped": [["budget.batch", "optim.lr"]]}
    study = study_of(runs, metrics=metrics.lazy(), record=record)
    assert study.axes == ("budget.batch", "optim.lr")
    assert study.planned_cells is None  # no full grid of the two was planned


def mappings(*values):
    """A study of one axis over whole mappings `task`, and its events."""
    runs, metrics, record = simulate({"task": list(range(len(values)))}, replicates=2, outcomes="ec")
    names = dict.fromkeys(name for value in values for name in value)
    columns = {f"task.{name}": [values[i].get(name) for i in runs["task"]] for name in names}
    runs = runs.drop("task", "task.name").with_columns(pl.Series(name, column) for name, column in columns.items())
    return study_of(runs, metrics=metrics.lazy(), record=record | {"axes": {"task": list(values)}})


def test_mappings_that_no_one_column_tells_apart_are_one_axis_in_words():
    study = mappings(
        {"name": "window_sum", "window": 8, "modulus": 11}, {"name": "window_sum", "window": 2, "modulus": 11},
        {"name": "rewrite", "rule": "copy", "numbers": 5}, {"name": "rewrite", "rule": "add", "numbers": 5},
    )  # fmt: skip
    assert study.axes == ("task",)
    words = ["window_sum, window 8", "window_sum, window 2", "rewrite, rule copy", "rewrite, rule add"]
    assert study.levels("task") == words
    assert study.runs["task"].null_count() == 0
    assert study.planned_cells is None


def test_fields_that_say_no_more_than_the_name_are_left_out():
    assert mappings({"name": "parity", "bits": 3}, {"name": "recall", "words": 9}).axes == ("task.name",)


def test_mappings_of_one_name_that_differ_in_one_field_are_that_field():
    study = mappings({"name": "parity", "bits": 3}, {"name": "parity", "bits": 9})
    assert study.axes == ("task.bits",)
    assert study.levels("task.bits") == [3, 9]
