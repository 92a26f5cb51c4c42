"""What the detector makes of how a run ended: over its fall, after a relapse, by divergence, or not at all."""

import numpy as np
import pytest
from curves import LOGISTIC, N, detected_one, detected_short, short_run, tables

from analysis.detect import detect_events
from analysis.errors import AnalysisError


def test_a_fall_cut_off_by_the_end_is_in_transition():
    curve = short_run(np.random.default_rng(0), at=1480, width=100, steps=1500)
    assert (detected_one(curve)["status"], detected_one(curve)["kind"]) == ("censored", "in_transition")


@pytest.mark.parametrize(("width", "share"), [(40, 0.6), (40, 0.85), (100, 0.5), (200, 0.5), (400, 0.4)])
def test_a_fall_that_was_never_completed_is_in_transition(width, share):
    # the run ends when this share of the way is gone; the narrowest fall has two bins
    at = 1500 - width * np.log(share / (1 - share)) / LOGISTIC
    found = detected_short(20, at=at, width=width, steps=1500, tail=None)
    assert (found["kind"] == "in_transition").sum() >= 19
    assert (found["status"] == "censored").all()
    assert found["eureka_step"].is_null().all()


def test_a_fall_that_already_takes_longer_than_its_wait_is_not_in_transition():
    t = np.arange(300)
    noise = np.random.default_rng(0).normal(0, 0.01, t.size)
    slow, quick = (0.95 - 0.4 * np.clip((t - start) / (300 - start), 0, 1) + noise for start in (110, 210))
    assert [detected_one(curve)["kind"] for curve in (slow, quick)] == ["none", "in_transition"]


@pytest.mark.parametrize("sd", [0.05, 0.2])
def test_noise_in_the_last_bins_is_no_transition(sd):
    assert (detected_short(200, seed=3, at=None, sd=sd)["kind"] == "none").all()


def test_a_diverged_run_is_never_in_transition():
    curve = short_run(np.random.default_rng(0), at=1480, width=100, steps=1500, tail=None)
    assert detected_one(curve, status="diverged")["kind"] == "diverged"


def test_a_fall_with_two_bins_after_it_is_not_confirmed_yet():
    found = detected_short(at=1440, width=60, steps=1500)
    assert (found["kind"] == "in_transition").sum() >= 0.9 * N
    assert (found["status"] == "censored").all()


def test_five_bins_after_the_fall_confirm_it():
    assert (detected_short(at=700, tail=90)["kind"] == "eureka").sum() >= 0.9 * N


def test_an_event_too_late_to_confirm_lies_past_the_detectable_step():
    found = detected_one(short_run(np.random.default_rng(0), at=None))
    assert 1200 < found["detectable_step"] < 1450


def test_a_relapse_is_transient():
    rng = np.random.default_rng(0)
    curve = np.r_[short_run(rng, at=500, steps=800, tail=None), short_run(rng, at=None, steps=700)]
    assert (detected_one(curve)["status"], detected_one(curve)["kind"]) == ("censored", "transient")


def test_a_relapse_at_the_very_end_is_transient():
    rng = np.random.default_rng(0)
    curve = np.r_[short_run(rng, at=500, steps=1350, tail=None), short_run(rng, at=None, steps=150)]
    assert detected_one(curve)["kind"] == "transient"


def test_divergence_after_a_eureka_that_held_keeps_the_eureka():
    rng = np.random.default_rng(0)
    curve = np.r_[short_run(rng, at=500, steps=900, tail=None), np.geomspace(0.1, 1e6, 20), np.nan]
    found = detected_one(curve, status="diverged")
    assert (found["status"], found["kind"]) == ("eureka", "eureka")


def test_divergence_on_the_plateau_is_divergence():
    curve = np.r_[short_run(np.random.default_rng(0), at=None, steps=400), 3.0, np.nan, np.inf]
    found = detected_one(curve, status="diverged")
    assert (found["status"], found["kind"], found["end_step"], found["censored_step"]) == (
        "diverged",
        "diverged",
        403,
        None,
    )


def test_divergence_at_the_first_step_is_divergence():
    assert detected_one(np.full(3, np.nan), status="diverged")["status"] == "diverged"


def test_failed_runs_keep_their_row():
    runs, metrics = tables([np.zeros(0), np.ones(100)], status=["failed", "finished"])
    found = detect_events(metrics, runs=runs)
    assert found["status"].to_list() == ["failed", "censored"]
    assert found["kind"][0] == "failed"


def test_a_finished_run_without_values_is_refused():
    runs, metrics = tables([np.full(50, np.nan)])
    with pytest.raises(AnalysisError, match="1 finished runs have no finite value"):
        detect_events(metrics, runs=runs)
