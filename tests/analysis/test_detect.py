"""The detector against curves with known answers: the families of statistics.md 1.3, and this project's short runs."""

import numpy as np
import polars as pl
import pytest
from curves import N, detected_family, detected_one, detected_short, fall, tables

from analysis.detect import DETECTORS, EVENTS_SCHEMA, detect_events


@pytest.mark.parametrize(
    ("name", "sd", "at_least", "log_error"),
    [
        ("sharp", 0.1, 0.97, 0.005), ("abrupt", 0.1, 0.97, 0.01),
        ("drifting", 0.1, 0.97, 0.01), ("two drops", 0.1, 0.95, 0.01),
        ("sharp", 0.4, 0.95, 0.01), ("abrupt", 0.4, 0.90, 0.02),
        ("drifting", 0.4, 0.92, 0.02), ("two drops", 0.4, 0.85, 0.02),
    ],
)  # fmt: skip
def test_abrupt_families_are_found_at_their_midpoint(name, sd, at_least, log_error):
    found = detected_family(name, sd=sd).filter(pl.col("status") == "eureka")
    assert found.height / N >= at_least
    assert found.select((pl.col("eureka_step") / pl.col("truth")).log().abs().median()).item() < log_error


@pytest.mark.parametrize("name", ["none", "power law", "exponential", "gradual", "transient"])
@pytest.mark.parametrize(("sd", "at_most"), [(0.1, 0.0), (0.4, 0.05)])
def test_other_families_are_no_eureka(name, sd, at_most):
    found = detected_family(name, sd=sd)
    assert (found["status"] == "eureka").sum() / N <= at_most


def test_kinds_tell_why_it_was_none():
    names = ("none", "exponential", "gradual", "transient")
    kinds = {name: detected_family(name, sd=0.1, n=10)["kind"].mode()[0] for name in names}
    assert kinds == {"none": "none", "exponential": "gradual", "gradual": "gradual", "transient": "transient"}


@pytest.mark.parametrize("at", [300, 500, 1000, 1300])
@pytest.mark.parametrize("tail", [200, 300])
def test_a_short_run_stopped_after_its_event_is_a_eureka(at, tail):
    found = detected_short(at=at, tail=tail, steps=2000)
    assert (found["kind"] == "eureka").sum() >= 0.95 * N
    assert found["eureka_step"].drop_nulls().median() == pytest.approx(at, rel=0.01)


@pytest.mark.parametrize("sd", [0.05, 0.1, 0.2])
def test_short_plateaus_give_no_false_alarm(sd):
    assert (detected_short(200, at=None, sd=sd)["kind"] == "none").all()


def test_a_tail_at_a_late_event_of_a_long_run_is_still_seen():
    # sixteen bins an octave would leave a tail of 200 steps at step 19,000 a quarter of a bin
    found = detected_short(10, at=19_000, steps=30_000, tail=200)
    assert (found["kind"] == "eureka").all()


def test_a_descent_straight_to_the_floor_is_gradual():
    rng = np.random.default_rng(0)
    curve = 0.01 + 1.38 * np.exp(-np.arange(1000) / 60) + rng.normal(0, 0.03, 1000)
    found = detected_one(curve)
    assert (found["status"], found["kind"]) == ("censored", "gradual")
    assert found["solved_step"] is not None
    assert found["eureka_step"] is None


def test_a_fast_first_descent_to_the_plateau_is_no_event():
    t = np.arange(1500)
    curve = 0.95 + 4 * np.exp(-t / 20) + np.random.default_rng(0).normal(0, 0.05, 1500)  # a bad start: 5 nats
    assert detected_one(curve)["kind"] == "none"


def test_a_stair_without_a_landing_is_gradual():
    t = np.arange(1.0, 20_001)
    noise = np.random.default_rng(0).normal(0, 0.02, t.size)
    last = 0.65 * fall(t, at=6000, ratio=1.05)
    slow, early = (0.35 * fall(t, at=at, ratio=1.9) for at in (3500, 1500))  # ends 1.25 and 3 times before the last
    runs, metrics = tables([slow + last + noise, early + last + noise])
    assert detect_events(metrics, runs=runs)["kind"].to_list() == ["gradual", "eureka"]


def test_events_have_the_promised_columns_in_order():
    found = detected_short(3, at=500)
    assert dict(found.schema) == EVENTS_SCHEMA
    assert found.select(pl.col("eureka_step").is_between("after_step", "by_step", closed="right").all()).item()
    assert found.select((pl.col("abruptness") * pl.col("rise_ratio").log(2)).round(9).unique()).item() == 1


def test_registered_names_are_their_detectors_own():
    assert all(name == detector.name for name, detector in DETECTORS.items())
