"""Events of other metrics, of either sign, with and without known levels; and the level witness."""

import numpy as np
import polars as pl
import pytest
from curves import TASK, detected_one, short_run, tables

from analysis.detect import DETECTORS, detect_events
from analysis.errors import AnalysisError

CONTRAST = DETECTORS["contrast-1"]


def test_level_witness_agrees_on_when():
    rng = np.random.default_rng(0)
    runs, metrics = tables([short_run(rng, at=at) for at in (300, 500, 900, None)], **TASK)
    contrast, level = detect_events(metrics, runs=runs), detect_events(metrics, runs=runs, detector="level-1")
    assert level["status"].to_list() == ["eureka", "eureka", "eureka", "censored"]
    np.testing.assert_allclose(level["eureka_step"].drop_nulls(), contrast["eureka_step"].drop_nulls(), rtol=0.02)
    assert level["detector"].unique().to_list() == ["level-1"]


def test_level_witness_waits_for_a_crossing_that_stays():
    curve = short_run(np.random.default_rng(0), at=900)
    curve[400:440] = 0.1  # two bins
    found = detected_one(curve, detector="level-1")
    assert found["eureka_step"] == pytest.approx(900, rel=0.03)


def test_level_witness_counts_gradual_solutions():
    curve = 0.01 + 1.38 * np.exp(-np.arange(1000) / 60) + np.random.default_rng(0).normal(0, 0.03, 1000)
    assert detected_one(curve, detector="level-1")["status"] == "eureka"


def test_level_witness_asks_for_a_known_floor():
    runs, metrics = tables([np.ones(200)], floor=None)
    with pytest.raises(AnalysisError, match="1 runs have none"):
        detect_events(metrics, runs=runs, detector="level-1")


def test_accuracy_rises_where_loss_falls():
    rng = np.random.default_rng(0)
    runs, metrics = tables([1 - 0.5 * short_run(rng, at=at) for at in (400, 800, None)], metric="accuracy")
    runs = runs.with_columns(pl.lit(1.0).alias("level.accuracy_ceiling"), pl.lit(0.5).alias("level.accuracy_plateau"))
    found = detect_events(metrics, runs=runs, detector="contrast-accuracy-1")
    assert found["status"].to_list() == ["eureka", "eureka", "censored"]
    assert found["plateau_level"][0] == pytest.approx(0.52, abs=0.03)
    assert found["final_level"][0] == pytest.approx(1, abs=0.03)


def test_any_metric_can_be_read_against_its_own_floor():
    rng = np.random.default_rng(0)
    runs, metrics = tables([short_run(rng, at=600)], metric="attention_entropy")
    found = detect_events(metrics, runs=runs, detector=CONTRAST.reading("attention_entropy", floor=0.0))
    assert found["status"][0] == "eureka"
    assert found["detector"][0] == "contrast-1:attention_entropy"


def test_a_metric_that_rises_is_detected_from_either_side():
    rng = np.random.default_rng(0)
    mass = [1 - 0.9 * short_run(rng, at=at) for at in (500, 900, None)]
    rising, risen = tables(mass, metric="attention_on_target")
    falling, fallen = tables([1 - curve for curve in mass], metric="spread")
    upwards = CONTRAST.reading("attention_on_target", floor=1.0, falls=False)
    up = detect_events(risen, runs=rising, detector=upwards)
    down = detect_events(fallen, runs=falling, detector=CONTRAST.reading("spread", floor=0.0))
    assert up["status"].to_list() == ["eureka", "eureka", "censored"]
    np.testing.assert_allclose(up["eureka_step"].drop_nulls(), down["eureka_step"].drop_nulls(), rtol=1e-5)
    np.testing.assert_allclose(up["plateau_level"], 1 - down["plateau_level"], rtol=1e-5)


def test_without_known_levels_the_runs_own_lowest_bin_is_the_floor():
    rng = np.random.default_rng(0)
    runs, metrics = tables([short_run(rng, at=600), short_run(rng, at=None)], floor=None)
    assert detect_events(metrics, runs=runs)["kind"].to_list() == ["eureka", "none"]
