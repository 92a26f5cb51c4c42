"""Fits against Stata, R and SAS: the numbers that others published.

Not here: the proportional-hazards mixture cure of R's smcure on e1684 (Cai et al. 2012). This project has no such
model, and none of lifelines, statsmodels and SurPyval carries the 284 patients, which come with R packages.
"""

import numpy as np
import pytest

from analysis.errors import AnalysisError, NoRuns
from analysis.models.families import FAMILIES
from analysis.models.maximise import fit
from analysis.models.promotion import promotion
from analysis.models.times import Times

datasets = pytest.importorskip("lifelines.datasets")


def censored(steps, came):
    steps, came = np.asarray(steps, dtype=float), np.asarray(came, dtype=bool)
    nothing = np.zeros(len(steps))
    return Times(steps, np.where(came, steps, np.inf), nothing, nothing.astype(bool))


@pytest.fixture(scope="module")
def breast_cancer():
    """GBSG2, which flexsurv has as `bc`: 686 patients, 299 events; times in days."""
    frame = datasets.load_gbsg2()
    return censored(frame["time"], frame["cens"] == 1)


def test_weibull_cure_is_statas(breast_cancer):
    # Stata's strsmix, quoted in the tests of R's flexsurvcure: logit cured -.4731367 (.1641441), ln gamma .448163
    # (.0576425), ln lambda -11.10519 (.5901206); identity link .3838745 (.0388224); log-likelihood of statistics.md 5.9
    one = np.ones((breast_cancer.n, 1))
    found = fit(breast_cancer, family=FAMILIES["weibull"], x=one, z=one)
    error = np.sqrt(np.diag(found.covariance))
    assert (-found.gamma[0], error[0]) == pytest.approx((-0.4731367, 0.1641441), abs=5e-5)
    assert (-found.theta[2], error[2]) == pytest.approx((0.448163, 0.0576425), abs=5e-5)
    assert -found.beta[0] / found.scale == pytest.approx(-11.10519, abs=5e-4)
    slope = np.array([-1 / found.scale, found.beta[0] / found.scale])  # of ln lambda, by beta and log scale
    assert np.sqrt(slope @ found.covariance[1:, 1:] @ slope) == pytest.approx(0.5901206, abs=5e-4)
    cured = 1 / (1 + np.exp(found.gamma[0]))
    assert (cured, cured * (1 - cured) * error[0]) == pytest.approx((0.3838745, 0.0388224), abs=2e-5)
    assert found.value == pytest.approx(-2628.235, abs=1e-3)


def test_log_normal_cure_is_statas(breast_cancer):
    # the same source: mu 6.982434 (.1304159), ln sigma -.0933944 (.0800745), cured .2774585
    one = np.ones((breast_cancer.n, 1))
    found = fit(breast_cancer, family=FAMILIES["lognormal"], x=one, z=one)
    error = np.sqrt(np.diag(found.covariance))
    assert (found.beta[0], error[1]) == pytest.approx((6.982434, 0.1304159), abs=1e-4)
    assert (found.theta[2], error[2]) == pytest.approx((-0.0933944, 0.0800745), abs=1e-4)
    assert 1 / (1 + np.exp(found.gamma[0])) == pytest.approx(0.2774585, abs=1e-5)
    assert found.value == pytest.approx(-2615.916, abs=1e-3)


def test_non_mixture_weibull_cure_is_statas(breast_cancer):
    # Stata's strsnmix, in the same tests: logit cured -.5151878, ln gamma .5110451, ln lambda -12.16467; log-likelihood
    # of statistics.md 5.9
    found = promotion(breast_cancer, family=FAMILIES["weibull"])
    logit, location, log_scale = found.theta
    assert found.converged
    assert (logit, -log_scale) == pytest.approx((-0.5151878, 0.5110451), abs=2e-4)
    assert -location / np.exp(log_scale) == pytest.approx(-12.16467, abs=2e-3)
    assert found.value == pytest.approx(-2625.724, abs=1e-3)
    assert found.ever == pytest.approx(1 - 1 / (1 + np.exp(0.5151878)), abs=1e-4)


def test_non_mixture_bounds_entries_and_lost_runs_are_heard():
    rng = np.random.default_rng(0)
    steps = np.where(rng.random(400) < 0.6, rng.lognormal(3, 0.5, 400), np.inf)
    known = censored(np.minimum(steps, 200), steps <= 200)
    exact = promotion(known, family=FAMILIES["lognormal"])
    assert exact.ever == pytest.approx(0.6, abs=0.06)
    narrow = Times(np.where(known.is_event, known.low * (1 - 1e-5), known.low), known.high, known.entry, known.is_lost)
    np.testing.assert_allclose(promotion(narrow, family=FAMILIES["lognormal"]).theta, exact.theta, atol=1e-3)
    lost = Times(known.low, known.high, known.entry, ~known.is_event)  # at 200 steps none was still to come
    np.testing.assert_allclose(promotion(lost, family=FAMILIES["lognormal"]).theta, exact.theta, atol=1e-2)
    late = known.take(known.low > 20)
    late = Times(late.low, late.high, np.full(late.n, 20.0), late.is_lost)  # chosen for not having had it by 20
    assert promotion(late, family=FAMILIES["lognormal"]).ever == pytest.approx(0.6, abs=0.1)
    with pytest.raises(NoRuns, match="expected two or more"):
        promotion(censored([5, 6], [True, False]), family=FAMILIES["weibull"])


def test_weibull_regression_is_rs_on_lung():
    # R survival, r_lung.Rout.save: null 6.034904, scale .7593936, -1153.9; sex, age, ph.ecog on 227 rows
    frame = datasets.load_lung()
    null = fit(censored(frame["time"], frame["status"] == 1), family=FAMILIES["weibull"], x=np.ones((len(frame), 1)))
    assert (null.beta[0], null.scale) == pytest.approx((6.034904, 0.7593936), abs=2e-6)
    assert null.value == pytest.approx(-1153.9, abs=0.05)
    frame = frame.dropna(subset=["ph.ecog"])
    x = np.column_stack([np.ones(len(frame)), frame["sex"], frame["age"], frame["ph.ecog"]]).astype(float)
    found = fit(censored(frame["time"], frame["status"] == 1), family=FAMILIES["weibull"], x=x)
    assert found.beta == pytest.approx([6.273435, 0.401091, -0.007475, -0.339638], abs=2e-6)
    assert found.scale == pytest.approx(0.731109, abs=2e-6)
    assert found.value == pytest.approx(-1132.4, abs=0.05)


def test_inspected_turbines_are_sas():
    # 167 parts inspected at eight ages (Nelson 1982, p. 415); SAS RELIABILITY, in R's r_sas: 7.6880 (.0744),
    # log scale -.3953 (.0987), log-likelihood -309.63
    days = np.array([0, 186, 606, 902, 1077, 1209, 1377, 1592, 1932], dtype=float)
    cracked = [5, 16, 12, 18, 18, 2, 6, 17]
    low = np.concatenate([np.repeat(days[:-1], cracked), np.full(167 - sum(cracked), days[-1])])
    high = np.concatenate([np.repeat(days[1:], cracked), np.full(167 - sum(cracked), np.inf)])
    nothing = np.zeros(167)
    found = fit(Times(low, high, nothing, nothing.astype(bool)), family=FAMILIES["weibull"], x=np.ones((167, 1)))
    error = np.sqrt(np.diag(found.covariance))
    assert (found.beta[0], error[0]) == pytest.approx((7.6880, 0.0744), abs=5e-5)
    assert (found.theta[1], error[1]) == pytest.approx((-0.3953, 0.0987), abs=5e-5)
    assert found.value == pytest.approx(-309.63, abs=5e-3)


def test_clustered_errors_are_those_of_replicated_runs():
    rng = np.random.default_rng(0)
    steps, x = rng.lognormal(3, 0.5, 60), np.column_stack([np.ones(60), rng.normal(size=60)])
    once = fit(censored(steps, steps < 40), family=FAMILIES["lognormal"], x=x)
    thrice = fit(
        censored(np.repeat(steps, 3), np.repeat(steps < 40, 3)), family=FAMILIES["lognormal"], x=np.repeat(x, 3, axis=0)
    )
    alone = once.sandwich(np.arange(60))
    np.testing.assert_allclose(thrice.sandwich(np.repeat(np.arange(60), 3)), alone, rtol=1e-4)
    assert thrice.covariance[1, 1] == pytest.approx(once.covariance[1, 1] / 3, rel=1e-4)


def test_too_few_events_are_refused():
    for came in ([False] * 5, [True] + [False] * 4):
        with pytest.raises(NoRuns, match="expected two or more"):
            fit(censored([5, 6, 7, 8, 9], came), family=FAMILIES["weibull"], x=np.ones((5, 1)))


def test_columns_that_repeat_are_refused():
    with pytest.raises(AnalysisError, match="repeat one another"):
        fit(censored([5, 6, 7, 8], [True] * 4), family=FAMILIES["weibull"], x=np.ones((4, 2)))


def test_ten_thousand_runs_fit_in_seconds():
    rng = np.random.default_rng(1)
    x = np.column_stack([np.ones(10_000), rng.normal(size=(10_000, 4))])
    ever = rng.random(10_000) < 1 / (1 + np.exp(-(0.4 + x[:, 1])))
    steps = np.where(ever, np.exp(7 - 0.4 * x[:, 2] + 0.6 * rng.normal(size=10_000)), np.inf)
    found = fit(censored(np.minimum(steps, 8000), steps <= 8000), family=FAMILIES["lognormal"], x=x, z=x)
    assert found.converged
    assert found.theta[:2] == pytest.approx([0.4, 1.0], abs=0.15)
    assert found.beta[2] == pytest.approx(-0.4, abs=0.03)
