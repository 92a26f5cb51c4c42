"""The literature's rules fire where their papers say they do, and fail where they are known to."""

import numpy as np
import polars as pl
import pytest
from curves import fall, tables

from analysis.detect import DETECTORS, detect_events
from analysis.errors import AnalysisError
from analysis.panel import panel
from analysis.rules import breakthroughness

STEPS = 4000
T = np.arange(1.0, STEPS + 1)


def events(*curves, detector, noise=0.01):
    """EVENTS of accuracy curves, or of losses for a rule that reads them; plateau .5, ceiling 1."""
    rng = np.random.default_rng(0)
    metric = DETECTORS[detector].metric
    drawn = [curve + rng.normal(0, noise, curve.size) for curve in curves]
    runs, metrics = tables(drawn if metric == "accuracy" else [1 - a for a in drawn], metric=metric, plateau=0.5)
    runs = runs.with_columns(pl.lit(1.0).alias("level.accuracy_ceiling"), pl.lit(0.5).alias("level.accuracy_plateau"))
    return detect_events(metrics, runs=runs, detector=detector)


def rise(*, at, ratio=1.2, top=1.0):
    return 0.5 + (top - 0.5) * (1 - fall(T, at=at, ratio=ratio))


@pytest.mark.parametrize(("detector", "level"), [("power-1", 0.99), ("liu-1", 0.9), ("sustained-1", 0.9)])
def test_threshold_rules_fire_at_their_threshold(detector, level):
    found = events(rise(at=1500), detector=detector, noise=1e-4).row(0, named=True)
    expected = np.argmax(rise(at=1500) >= level)
    assert found["status"] == "eureka"
    assert found["after_step"] <= found["eureka_step"] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("detector", ["power-1", "liu-1", "sustained-1", "epoch-1", "gains-1"])
def test_a_plateau_fires_no_threshold(detector):
    found = events(np.full(STEPS, 0.5), detector=detector)
    assert (found["status"][0], found["kind"][0]) == ("censored", "none")
    assert found["eureka_step"][0] is None


def test_one_good_evaluation_is_not_ten_in_a_row():
    blip = np.where((T > 1000) & (T < 1060), 0.95, 0.5)
    assert events(blip, detector="liu-1")["status"][0] == "eureka"
    assert events(blip, detector="sustained-1")["status"][0] == "censored"
    late = np.where(T > STEPS - 60, 0.95, 0.5)  # ten do not fit in before the end
    assert events(late, detector="sustained-1")["status"][0] == "censored"


def test_thresholds_cannot_tell_a_leap_from_slow_learning():
    slow = rise(at=800, ratio=20)
    assert events(slow, detector="liu-1")["status"][0] == "eureka"
    assert events(slow, detector="contrast-accuracy-1")["status"][0] == "censored"


def test_a_sudden_gain_is_large_relatively_large_and_stable():
    step, small, slow = rise(at=2000, ratio=1.02), rise(at=2000, ratio=1.02, top=0.58), rise(at=800, ratio=30)
    found = events(step, small, slow, detector="gains-1")
    assert found["status"].to_list() == ["eureka", "censored", "censored"]
    assert found["eureka_step"][0] == pytest.approx(2000, rel=0.1)
    spike = 0.5 + 0.3 * ((T > 1900) & (T < 2100))
    assert events(spike, detector="gains-1")["status"][0] == "censored"


def test_acceleration_is_greatest_at_the_onset_and_somewhere_in_every_run():
    found = events(rise(at=2000, ratio=1.3), np.full(STEPS, 0.5), detector="acceleration-1")
    assert found["status"].to_list() == ["eureka", "eureka"]
    assert 1400 < found["eureka_step"][0] < 2000


def test_an_epoch_counts_only_if_all_after_it_are_as_good():
    stays, relapses = rise(at=2000), np.where(T < 3000, rise(at=1000), 0.5)
    found = events(stays, relapses, detector="epoch-1")
    assert found["status"].to_list() == ["eureka", "censored"]
    expected = np.argmax(stays >= 0.65)
    assert found["eureka_step"][0] == pytest.approx(expected, abs=2 * STEPS / 100)
    assert found["eureka_step"][0] % (STEPS / 100) == 0


def test_the_epoch_rule_asks_for_known_levels():
    runs, metrics = tables([np.ones(200)], metric="accuracy")
    runs = runs.with_columns(
        pl.lit(None, dtype=pl.Float64).alias(name) for name in ("level.accuracy_ceiling", "level.accuracy_plateau")
    )
    with pytest.raises(AnalysisError, match="1 runs have none"):
        detect_events(metrics, runs=runs, detector="epoch-1")


def test_breakthroughness_is_the_formula_on_a_small_example():
    values = [5.0, 4.9, 4.7, 1.7, 1.6]
    digest = pl.DataFrame({"run_id": ["a"] * 5 + ["b"] * 5, "bin": [*range(5)] * 2, "value": [*values, *values[::-1]]})
    digest = digest.with_columns(at_step=16.0 * (1 + pl.col("bin")), n_steps=16)
    found = dict(breakthroughness(panel(digest)).iter_rows())
    by_hand = (5.0 - 1.6) / np.sqrt(np.median([0.1**2, 0.2**2, 3.0**2, 0.1**2]))
    assert found["a"] == pytest.approx(by_hand)
    assert found["b"] == pytest.approx(-by_hand)


def test_breakthroughness_is_greater_for_a_leap_than_for_a_slope():
    found = events(rise(at=2000, ratio=1.05), rise(at=800, ratio=30), detector="contrast-accuracy-1")
    assert found["breakthroughness"][0] > 2 * found["breakthroughness"][1]


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_keeps_failed_diverged_and_empty_runs(name):
    metric = DETECTORS[name].metric
    runs, metrics = tables(
        [np.zeros(0), np.full(5, np.nan), np.linspace(0.5, 0.6, 900)], status=["failed", "diverged", "finished"],
        metric=metric, plateau=0.9,
    )  # fmt: skip
    levels = {"accuracy_ceiling": 1.0, "accuracy_plateau": 0.5, "kl_floor": 0.0, "kl_plateau": 0.9}
    runs = runs.with_columns(pl.lit(value).alias(f"level.{level}") for level, value in levels.items())
    found = detect_events(metrics, runs=runs, detector=name)
    assert found["status"].to_list()[:2] == ["failed", "diverged"]
    assert found["detector"].unique().to_list() == [name]
