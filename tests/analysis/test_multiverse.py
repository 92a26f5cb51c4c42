"""The multiverse: each universe is its detector alone; conclusions that depend on the definition are said to flip."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from curves import fall, short_run, tables
from demo import demo_store

from analysis.detect import DETECTORS, events_of
from analysis.digest import digest
from analysis.errors import NoRuns, NoSuchColumn
from analysis.multiverse import ESTIMATES, conclusions, multiverse, stored_multiverse
from analysis.store import Store
from analysis.survival import chance_by_step

LR = "optim.lr"


@pytest.fixture(scope="module")
def sweep():
    """Two configs: one falls abruptly and far, the other slowly in loss and abruptly in accuracy."""
    rng = np.random.default_rng(0)
    t = np.arange(1.0, 3001)
    quick = [short_run(rng, at=at, steps=3000, tail=None) for at in (500, 700, 900, 1100, None, None)]
    slow = [0.01 + 0.94 * fall(t, at=900, ratio=2.5) + rng.normal(0, 0.02, t.size) for _ in range(6)]
    sharp = [0.5 + 0.5 * (1 - fall(t, at=900, ratio=1.2)) + rng.normal(0, 0.02, t.size) for _ in range(6)]
    dull = [0.5 + 0.1 * (1 - fall(t, at=900, ratio=1.2)) + rng.normal(0, 0.02, t.size) for _ in range(6)]
    runs, losses = tables([*quick, *slow], floor=0.01, plateau=0.95, settings={LR: [1e-3] * 6 + [1e-4] * 6})
    _, accuracies = tables([*dull, *sharp], metric="accuracy")
    runs = runs.with_columns(pl.lit(1.0).alias("level.accuracy_ceiling"), pl.lit(0.5).alias("level.accuracy_plateau"))
    digests = {"loss": digest(losses, runs=runs), "error": digest(accuracies, runs=runs, metric="accuracy")}
    return runs, digests, multiverse(digests, runs=runs, axes=[LR], at_step=3000)


def test_there_is_a_row_for_every_universe_and_config(sweep):
    table = sweep[2]
    assert table.height == 18 * 3
    assert table.group_by("metric", "share", "most_rise").len()["len"].unique().to_list() == [3]
    assert table["is_primary"].sum() == 3
    assert {name: table.schema[name] for name in ESTIMATES} == ESTIMATES


@pytest.mark.parametrize(("metric", "name"), [("loss", "contrast-1"), ("error", "contrast-accuracy-1")])
def test_each_universe_equals_its_detector_alone(sweep, metric, name):
    runs, digests, table = sweep
    for share, rise in ((0.5, 2.0), (0.3, 3.0), (0.7, 1.5)):
        detector = replace(DETECTORS[name], least_gap=share, solved_share=share, most_rise=rise)
        events = events_of(digests[metric], runs=runs, detector=detector).join(runs.select("run_id", LR), on="run_id")
        alone = chance_by_step(events, at_steps=[3000], by=[LR]).sort(LR)
        of_universe = (pl.col("metric") == metric) & (pl.col("share") == share) & (pl.col("most_rise") == rise)
        found = table.filter(of_universe & ~pl.col("is_pooled")).sort(LR)
        assert found.select("chance", "chance_lo", "chance_hi").equals(alone.select("chance", "chance_lo", "chance_hi"))
        steps = events.filter(pl.col("status") == "eureka").group_by(LR).agg(pl.col("eureka_step").median()).sort(LR)
        assert found["median_t50"].drop_nulls().to_list() == steps["eureka_step"].to_list()


def test_a_slower_fall_counts_only_where_it_may(sweep):
    slow = sweep[2].filter((pl.col(LR) == 1e-4) & (pl.col("metric") == "loss")).sort("share", "most_rise")
    assert slow.filter(pl.col("most_rise") <= 2)["chance"].to_list() == [0.0] * 6
    assert slow.filter(pl.col("most_rise") == 3)["chance"].to_list() == [1.0] * 3


def test_how_deep_a_fall_leads_is_a_choice_too():
    rng = np.random.default_rng(0)
    t = np.arange(1.0, 3001)
    shallow = 0.55 + 0.95 * fall(t, at=900, ratio=1.2) + rng.normal(0, 0.02, t.size)  # 1.5 to .55: far, not deep
    runs, losses = tables([shallow], floor=0.0, plateau=0.95)
    table = multiverse({"loss": digest(losses, runs=runs)}, runs=runs, axes=[], at_step=3000)
    assert dict(table.filter(most_rise=2.0).select("share", "chance").iter_rows()) == {0.3: 1.0, 0.5: 0.0, 0.7: 0.0}


def test_a_difference_that_depends_on_the_metric_flips(sweep):
    pair = conclusions(sweep[2], axes=[LR]).row(0, named=True)
    assert {pair["optim.lr_a"], pair["optim.lr_b"]} == {1e-4, 1e-3}
    assert abs(pair["difference"]) == pytest.approx(4 / 6)
    assert pair["flips"]
    assert pair["agree"] < pair["universes"] == 18
    assert pair["lowest"] < 0 < pair["highest"]
    assert sweep[2].filter("flips")["metric"].unique().to_list().count("error") == 1


def test_a_difference_that_every_definition_shows_does_not_flip():
    rng = np.random.default_rng(1)
    curves = [
        short_run(rng, at=at, tail=None) for at in (500, 600, 700, 800, 500, 600, 700, None, None, None, None, None)
    ]
    runs, losses = tables(curves, floor=0.01, plateau=0.95, settings={LR: [1e-3] * 6 + [1e-4] * 6})
    table = multiverse({"loss": digest(losses, runs=runs)}, runs=runs, axes=[LR], at_step=1500)
    pair = conclusions(table, axes=[LR]).row(0, named=True)
    assert not pair["flips"]
    assert pair["agree"] == pair["universes"] == 9
    assert not table["flips"].any()


def test_the_median_lies_in_its_interval_where_there_is_one(sweep):
    table = sweep[2].filter(pl.col("t50_lo").is_not_null())
    assert table.height > 0
    assert table.select(pl.col("median_t50").is_between("t50_lo", "t50_hi").all()).item()
    assert (
        sweep[2].filter(pl.col("n_eureka") < 6)["t50_lo"].null_count() == sweep[2].filter(pl.col("n_eureka") < 6).height
    )


def test_the_interval_of_the_median_covers_it():
    from analysis.interval import median_interval

    rng = np.random.default_rng(0)
    samples = np.sort(rng.lognormal(6, 0.5, (2000, 15)), axis=1)
    inside = [low <= np.exp(6) <= high for _, low, high in (median_interval(list(row)) for row in samples)]
    assert 0.95 <= np.mean(inside) <= 0.98  # exact coverage at n = 15 is .965


def test_a_store_gives_the_same_table(tmp_path):
    store = demo_store(tmp_path, replicates=3, outcomes="eec")
    table = stored_multiverse(store, axes=["optim.lr"], at_step=1500)
    assert table.filter("is_primary", "is_pooled")["n"].unique().to_list() == [36]
    assert table.height == 18 * 5


def test_bad_requests_are_one_line(tmp_path, sweep):
    runs, digests, _ = sweep
    with pytest.raises(NoRuns, match="no run has ended yet"):
        stored_multiverse(Store.create(tmp_path / "empty"), at_step=100)
    with pytest.raises(NoSuchColumn, match=r"axis: got 'optim\.rl'; expected one of .*optim\.lr"):
        multiverse(digests, runs=runs, axes=["optim.rl"], at_step=100)
    with pytest.raises(NoSuchColumn, match="metric: got 'entropy'; expected one of loss, error"):
        multiverse({"entropy": digests["loss"]}, runs=runs, axes=[], at_step=100)
    with pytest.raises(NoRuns, match="no run ended without failing"):
        multiverse(digests, runs=runs.with_columns(status=pl.lit("failed")), axes=[], at_step=100)


def test_runs_that_all_diverged_have_chance_zero(sweep):
    runs, digests, _ = sweep
    lost = runs.with_columns(status=pl.lit("diverged"))[10:]
    flat = {"loss": digests["loss"].with_columns(value=pl.lit(2.0))}
    table = multiverse(flat, runs=lost, axes=[], at_step=3000)
    assert table["chance"].to_list() == [0.0] * 9
    assert table["median_t50"].null_count() == 9
