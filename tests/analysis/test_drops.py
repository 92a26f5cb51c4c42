"""Falls are found where they were drawn and measured as they were drawn."""

import numpy as np
import polars as pl
import pytest
from curves import fall, tables

from analysis.digest import digest
from analysis.drops import Contrast, contrast, find_drops
from analysis.panel import panel


def drops(curve):
    runs, metrics = tables([curve])
    return find_drops(panel(digest(metrics, runs=runs)), by=Contrast())


def test_a_logistic_fall_is_measured_where_it_was_drawn():
    rng = np.random.default_rng(0)
    t = np.arange(1.0, 20_001)
    curve = 0.1 + 2 * fall(t, at=5000, ratio=1.5) + rng.normal(0, 0.05, t.size)
    found = drops(curve).row(0, named=True)
    assert found["eureka_step"] == pytest.approx(5000, rel=0.01)
    assert found["completion_step"] / found["onset_step"] == pytest.approx(1.5, rel=0.1)
    assert (found["plateau_level"], found["after_level"]) == pytest.approx((2.1, 0.1), abs=0.05)


def test_the_midpoint_lies_in_its_interval():
    t = np.arange(1.0, 3001)
    for at in (300, 1000, 2000):
        found = drops(1 + fall(t, at=at, ratio=1.2) + np.random.default_rng(at).normal(0, 0.03, t.size)).row(
            0, named=True
        )
        assert found["after_step"] < found["eureka_step"] <= found["by_step"]
        assert found["by_step"] - found["after_step"] < 0.1 * at


def test_two_falls_are_found_and_neither_covers_the_other():
    t = np.arange(1.0, 20_001)
    curve = (
        0.5 * fall(t, at=1500, ratio=1.2)
        + 0.5 * fall(t, at=6000, ratio=1.2)
        + np.random.default_rng(0).normal(0, 0.02, t.size)
    )
    steps = sorted(drops(curve).filter(pl.col("gap") > 0.2)["eureka_step"])
    assert steps == pytest.approx([1500, 6000], rel=0.02)


def test_noise_of_the_contrast_is_what_white_noise_gives():
    rng = np.random.default_rng(0)
    runs, metrics = tables([rng.normal(1, 0.3, 1500) for _ in range(100)])
    height, noise = contrast(panel(digest(metrics, runs=runs)), by=Contrast())
    actual, claimed = height[:, 20:41].std(), noise[:, 20:41].mean()
    # smoothing makes neighbours alike: the claim is for independent bins, and may be low by no more than half
    assert 0.5 <= claimed / actual <= 1.5


def test_white_noise_holds_few_falls_and_small_ones():
    rng = np.random.default_rng(0)
    runs, metrics = tables([rng.normal(1, 0.2, 1500) for _ in range(200)])
    found = find_drops(panel(digest(metrics, runs=runs)), by=Contrast())
    # with two bins to measure noise on, the first bins are easily taken in; detect.py asks for half-way to the floor
    assert found["run_id"].n_unique() <= 30
    assert found["gap"].max() < 0.25


def test_a_fall_over_which_the_run_ends_hits_the_end():
    t = np.arange(1.0, 3001)
    noise = np.random.default_rng(0).normal(0, 0.02, t.size)
    whole, cut = (drops(fall(t, at=at, ratio=1.2) + noise).row(0, named=True) for at in (1500, 2950))
    assert (whole["hits_end"], cut["hits_end"]) == (False, True)


def test_a_run_of_one_bin_has_no_fall():
    assert drops(np.ones(5)).is_empty()
    assert drops(np.ones(40)).is_empty()
