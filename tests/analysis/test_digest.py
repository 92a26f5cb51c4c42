"""Digests: bins that follow their rule, and medians that a plain loop confirms."""

import math
import shutil

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curves import tables
from ledger import TYPES, curve_of, row

from analysis import frames
from analysis.bins import END_SHARE, GROWTH, bin_numbers, digest_rows
from analysis.digest import bin_of, digest
from analysis.errors import NoSuchColumn, StoreError
from analysis.rows import curve
from analysis.store import Store
from analysis.upkeep import compact


def bins(steps: int, bin_steps: int = 16) -> np.ndarray:
    frame = pl.DataFrame({"step": np.arange(steps), "steps": steps})
    return frame.select(bin_of(pl.col("step"), steps=pl.col("steps"), bin_steps=bin_steps)).to_series().to_numpy()


@pytest.mark.parametrize("steps", [1, 17, 300, 400, 1500, 20_000, 300_000])
def test_bin_widths_follow_the_promised_rule(steps):
    number = bins(steps)
    assert number[0] == 0
    assert np.all(np.diff(number) >= 0)
    assert np.all(np.diff(number) <= 1)
    first = np.searchsorted(number, np.unique(number))
    widths, middles = np.diff(first), (first[:-1] + first[1:]) / 2
    for width, middle in zip(widths, middles, strict=True):
        promised = max(16, min(GROWTH * middle, (steps - middle) / END_SHARE))
        assert promised * 0.85 - 1 <= width <= promised * 1.15 + 1


def test_a_tail_of_two_hundred_steps_has_at_least_eight_bins():
    for end in (700, 2_000, 20_000, 200_000):
        number = bins(end)
        assert number[-1] - number[end - 200] >= 8


def test_medians_equal_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    curves = [rng.lognormal(size=n).astype(np.float32) for n in (40, 900, 3000)]
    runs, metrics = tables(curves)
    found = digest(metrics, runs=runs)
    for run_id, values in zip(runs["run_id"], curves, strict=True):
        number = bins(len(values))
        slow = [float(np.median(values[number == b].astype(float))) for b in np.unique(number)]
        mine = found.filter(pl.col("run_id") == run_id)
        assert mine["value"].to_list() == pytest.approx(slow)
        assert mine["bin"].to_list() == list(range(len(slow)))
        assert mine["n_steps"].sum() == len(values)


def test_values_that_are_not_finite_are_dropped_not_averaged():
    curve = np.r_[np.full(50, 1.0), np.nan, np.inf, -np.inf]
    found = digest(tables([curve])[1], runs=tables([curve])[0])
    assert set(found["value"]) == {1.0}
    assert found["n_steps"].sum() == 50


def test_steps_without_the_measure_leave_no_empty_bins():
    runs, metrics = tables([np.arange(1000.0)])
    sparse = metrics.with_columns(entropy=pl.when(pl.col("step") % 50 == 0).then(pl.col("loss")))
    found = digest(sparse, runs=runs, metric="entropy")
    assert found.height == 20
    assert found["bin"].to_list() == list(range(20))


def test_an_unknown_metric_names_the_known_ones():
    runs, metrics = tables([np.ones(20)])
    with pytest.raises(NoSuchColumn, match="got 'lost'; expected one of loss"):
        digest(metrics, runs=runs, metric="lost")


def test_about_a_hundred_bins_hold_a_long_run():
    assert bins(20_000)[-1] < 160
    assert bins(1_000_000)[-1] < math.ceil(16 * math.log2(1_000_000))


# -- as the store keeps it -----------------------------------------------------------------------


def stored(path, *lengths, sparse=True):
    """A store of one commit: runs of these lengths, with a measure and some values that are not finite."""
    store, rng = Store.create(path), np.random.default_rng(0)
    rows, curves = [], []
    for number, steps in enumerate(lengths):
        loss = rng.lognormal(size=steps).astype(np.float32) - 1  # some are negative
        loss[rng.random(steps) < 0.02] = np.nan
        taken = np.arange(0, steps, 7) if sparse else np.arange(steps)
        measure = {"entropy": rng.normal(size=len(taken)).astype(np.float32)}
        curves.append(curve(f"r{number:02d}", {"loss": loss, "accuracy": np.abs(loss)}, taken, measure))
        rows.append(row(f"r{number:02d}", steps=steps))
    store.commit(rows, curves, types=TYPES)
    return store


def without_digests(store):
    shutil.rmtree(store.path / "digests")
    return Store(store.path)


LENGTHS = (1, 15, 16, 17, 369, 1500, 4001, 20_000)


@pytest.mark.parametrize("steps", [*range(1, 600, 13), 1500, 20_000, 300_001, 1_000_003])
def test_bin_numbers_are_the_same_in_numpy_and_polars(steps):
    assert np.array_equal(bin_numbers(steps), bins(steps))


@pytest.mark.parametrize("metric", ["loss", "accuracy", "entropy"])
def test_a_stored_digest_has_the_bits_of_one_made_in_polars(tmp_path, metric):
    store = stored(tmp_path / "s", *LENGTHS)
    made = digest(frames.metrics(store), runs=frames.runs(store), metric=metric)
    assert made.height > 100
    assert frames.digest(store, metric=metric).equals(made)
    assert frames.digest(without_digests(store), metric=metric).equals(made)


def test_every_metric_of_every_run_is_digested_once(tmp_path):
    store = stored(tmp_path / "s", *LENGTHS)
    table = pl.read_parquet(store.path / "digests" / "*.parquet")
    assert table.select("run_id", "metric", "bin").is_unique().all()
    assert set(table["metric"]) == {"loss", "accuracy", "entropy"}
    assert set(table["block"]) == set(store.blocks())
    counts = table.filter(metric="accuracy").group_by("run_id").agg(pl.col("n_steps").sum()).sort("run_id")
    finite = frames.metrics(store).group_by("run_id").agg(pl.col("accuracy").is_finite().sum()).sort("run_id").collect()
    assert counts["n_steps"].to_list() == finite["accuracy"].to_list()


def test_a_digest_does_not_depend_on_the_order_of_rows(tmp_path):
    table = pq.read_table(stored(tmp_path / "s", 17, 1500).metrics_paths()[0])
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    order = [("metric", "ascending"), ("run_id", "ascending"), ("bin", "ascending")]
    steps = {"r00": 17, "r01": 1500}
    one, other = (digest_rows(rows, steps=steps).sort_by(order) for rows in (table, shuffled))
    assert one.equals(other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_medians_of_either_precision_are_numpys(dtype):
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=700), [-0.0, 0.0, 1e-45, -3e38, 3e38]]).astype(dtype)
    table = pa.table({"run_id": pa.repeat("a", len(values)), "step": np.arange(len(values)), "loss": values})
    found = digest_rows(table, steps={"a": len(values)})["value"].to_numpy()
    number = bin_numbers(len(values))
    slow = [np.median(values[number == b].astype(float)) for b in np.unique(number)]
    assert np.array_equal(found, slow)


def test_runs_that_are_not_asked_for_leave_no_rows(tmp_path):
    table = pq.read_table(stored(tmp_path / "s", 100, 200).metrics_paths()[0])
    assert set(digest_rows(table, steps={"r01": 200})["run_id"].to_pylist()) == {"r01"}


def test_a_table_whose_dictionary_names_other_runs_too_is_digested():
    rows = pa.concat_tables([curve_of("a"), curve_of("b")])
    coded = rows.set_column(0, "run_id", rows["run_id"].dictionary_encode())
    alone = digest_rows(curve_of("b"), steps={"b": 20})
    assert digest_rows(coded, steps={"b": 20}).equals(alone)


def test_bins_of_another_width_are_made_from_the_curves(tmp_path):
    store = stored(tmp_path / "s", 400, 2000)
    made = digest(frames.metrics(store), runs=frames.runs(store), bin_steps=8)
    assert frames.digest(store, bin_steps=8).equals(made)
    assert made.height > frames.digest(store).height


def test_a_digest_of_another_definition_is_not_read(tmp_path):
    store = stored(tmp_path / "s", 400, 2000)
    path = store.digest_path(store.blocks()[0])
    table = pq.read_table(path)
    wrong = table.set_column(5, table.schema.field("value"), pa.array(np.zeros(len(table))))
    right = frames.digest(store)
    pq.write_table(wrong.replace_schema_metadata({b"digest_version": b"99"}), path)
    assert frames.digest(store).equals(right)


def test_part_of_the_runs_is_read_alone(tmp_path):
    store = stored(tmp_path / "s", 400, 2000, 500)
    assert set(frames.digest(store, run_ids=["r02"])["run_id"]) == {"r02"}
    assert set(frames.metrics(store, run_ids=["r02"]).collect()["run_id"]) == {"r02"}


def test_a_damaged_digest_is_made_again_and_a_lost_curve_is_one_line(tmp_path):
    store = stored(tmp_path / "s", 400)
    right, path = frames.digest(store), store.digest_path(store.blocks()[0])
    whole = path.read_bytes()
    for damaged in (whole[:-40], whole[:20] + bytes(60) + whole[80:], b""):
        path.write_bytes(damaged)
        assert frames.digest(store).equals(right)
    path.unlink()
    store.metrics_path(store.blocks()[0]).unlink()
    with pytest.raises(StoreError, match=r"not readable .* `eureka doctor .*` says what is wrong") as refusal:
        frames.digest(store)
    assert "\n" not in str(refusal.value)


def test_a_reader_follows_a_merge_that_moves_its_files(tmp_path, monkeypatch):
    store = Store.create(tmp_path / "s")
    for run in "ab":
        store.commit([row(run, steps=300)], [curve_of(run, steps=300)], types=TYPES)
    right, read = frames.digest(store), frames._is_current
    merged = []

    def while_merging(path):
        if not merged:
            merged.append(compact(Store(store.path)))
        return read(path)

    monkeypatch.setattr(frames, "_is_current", while_merging)
    assert frames.digest(store).equals(right)
    assert merged


def test_an_unknown_metric_of_a_store_names_the_known_ones(tmp_path):
    store = stored(tmp_path / "s", 400)
    with pytest.raises(NoSuchColumn, match="got 'lost'; expected one of accuracy, entropy, loss"):
        frames.digest(store, metric="lost")
    with pytest.raises(NoSuchColumn, match="got 'lost'; expected one of accuracy, entropy, loss"):
        frames.digest(without_digests(store), metric="lost")


def test_a_store_without_runs_has_an_empty_digest(tmp_path):
    assert frames.digest(Store.create(tmp_path / "s")).is_empty()


def test_a_metric_that_was_never_finite_is_known_and_empty(tmp_path):
    store = Store.create(tmp_path / "s")
    values = {"loss": np.full(3, np.nan, np.float32), "accuracy": np.ones(3, np.float32)}
    store.commit([row("a", steps=3, status="diverged")], [curve("a", values, np.zeros(0, int), {})], types=TYPES)
    assert frames.digest(store).is_empty()


def test_digests_of_an_attempt_that_was_never_committed_are_not_read(tmp_path):
    store = stored(tmp_path / "s", 400)
    right, path = frames.digest(store), store.digest_path(store.blocks()[0])
    table = pq.read_table(path)
    other = table.set_column(1, table.schema.field("block"), pa.repeat("an-older-attempt", len(table)))
    pq.write_table(pa.concat_tables([table, other]).replace_schema_metadata(table.schema.metadata), path)
    assert frames.digest(store).equals(right)
