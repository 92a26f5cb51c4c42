"""Cox regression and the log-rank test against R."""

import numpy as np
import pytest
from test_cure import censored
from test_survival import AML_MAINTAINED, AML_OTHER, events

from analysis.errors import NoRuns
from analysis.models.cox import cox, log_rank
from analysis.models.formula import Design

lifelines = pytest.importorskip("lifelines")


def aml():
    steps = AML_MAINTAINED[0] + AML_OTHER[0]
    return events(steps, "eeceeceecec" + AML_OTHER[1], arm=["maintained"] * 11 + ["not"] * 12)


def one_term(x):
    return Design(("x",), np.asarray(x, dtype=float)[:, None])


def test_coefficients_are_rs():
    # R survival, `validate` vignette book 1: six patients, Efron 1.676857
    six = cox(censored([1, 1, 6, 6, 8, 9], [1, 0, 1, 1, 0, 1]), design=one_term([1, 1, 1, 0, 0, 0]), cluster=None)
    assert six.beta[0] == pytest.approx(1.676857, abs=2e-6)
    # aml, doaml.Rout.save: Efron .9155 (.5119)
    table = aml()
    known = censored(table["end_step"].to_numpy(), (table["status"] == "eureka").to_numpy())
    found = cox(known, design=one_term(table["arm"] == "not"), cluster=None)
    assert (found.beta[0], found.se[0]) == pytest.approx((0.9155, 0.5119), abs=5e-5)


def test_likelihood_ratio_is_rs_on_aml():
    # doaml.Rout.save: likelihood ratio 3.38 on one degree; at zero each of the tied events has an equal share (Efron)
    table = aml()
    steps, came = table["end_step"].to_numpy(), (table["status"] == "eureka").to_numpy()
    found = cox(censored(steps, came), design=one_term(table["arm"] == "not"), cluster=None)
    at_zero = 0.0
    for step in np.unique(steps[came]):
        at_risk, tied = (steps >= step).sum(), (came & (steps == step)).sum()
        at_zero -= np.log(at_risk - np.arange(tied)).sum()
    assert 2 * (found.value - at_zero) == pytest.approx(3.38, abs=5e-3)


def test_breslows_ties_are_rs_where_efrons_are_ours():
    # the project's Cox is Efron's alone; that the same rows give R's Breslow numbers says that they are R's rows.
    # `validate` vignette book 1: ln((3 + sqrt 33) / 2); aml, doaml.Rout.save: .9042 (.5122)
    duration = pytest.importorskip("statsmodels.duration.hazard_regression")
    steps, came, x = np.array([1, 1, 6, 6, 8, 9.0]), np.array([1, 0, 1, 1, 0, 1]), np.array([1, 1, 1, 0, 0, 0.0])
    six = duration.PHReg(steps, x[:, None], status=came, ties="breslow").fit()
    assert six.params[0] == pytest.approx(np.log((3 + np.sqrt(33)) / 2), abs=1e-6)
    table = aml()
    steps, came = table["end_step"].to_numpy(), (table["status"] == "eureka").to_numpy()
    other = (table["arm"] == "not").to_numpy().astype(float)
    theirs = {
        ties: duration.PHReg(steps, other[:, None], status=came, ties=ties).fit() for ties in ("breslow", "efron")
    }
    assert (theirs["breslow"].params[0], theirs["breslow"].bse[0]) == pytest.approx((0.9042, 0.5122), abs=5e-5)
    ours = cox(censored(steps, came), design=one_term(other), cluster=None)
    assert (ours.beta[0], ours.se[0]) == pytest.approx((theirs["efron"].params[0], theirs["efron"].bse[0]), abs=5e-6)


def test_log_rank_is_rs_on_aml():
    statistic, p = log_rank(aml(), arm="arm", between=("maintained", "not"))
    assert (statistic, p) == pytest.approx((3.3964, 0.0653), abs=5e-5)


def test_log_rank_is_rs_on_lung():
    frame = lifelines.datasets.load_lung()
    ways = ["e" if status == 1 else "c" for status in frame["status"]]
    table = events(frame["time"], ways, sex=frame["sex"].tolist())
    assert log_rank(table, arm="sex", between=(1, 2)) == pytest.approx((10.327, 0.00131), abs=5e-4)


def test_hazards_that_cross_are_noticed():
    rng = np.random.default_rng(0)
    x = np.repeat([0.0, 1.0], 200)
    steps = np.where(x == 0, rng.lognormal(5, 0.2, 400), rng.lognormal(5, 1.2, 400))
    assert cox(censored(steps, np.ones(400)), design=one_term(x), cluster=None).proportional_p[0] < 1e-3
    steady = rng.exponential(np.where(x == 0, 100, 50))
    assert cox(censored(steady, np.ones(400)), design=one_term(x), cluster=None).proportional_p[0] > 0.01


def test_clusters_of_copies_leave_the_error_of_one():
    rng = np.random.default_rng(1)
    steps, x = rng.exponential(100, 80), rng.normal(size=80)
    once = cox(censored(steps, np.ones(80)), design=one_term(x), cluster=np.arange(80))
    thrice = cox(
        censored(np.repeat(steps, 3), np.ones(240)),
        design=one_term(np.repeat(x, 3)),
        cluster=np.repeat(np.arange(80), 3),
    )
    assert thrice.se[0] == pytest.approx(once.se[0], rel=0.1)


def test_delayed_entry_is_heard_and_has_no_check():
    rng = np.random.default_rng(2)
    steps, x = rng.exponential(100, 60) + 1, rng.normal(size=60)
    known = censored(steps, np.ones(60))
    late = type(known)(known.low, known.high, np.where(np.arange(60) % 2, 0.5 * steps, 0.0), known.is_lost)
    plain, entered = (cox(each, design=one_term(x), cluster=None) for each in (known, late))
    assert plain.beta[0] != pytest.approx(entered.beta[0])
    assert np.isnan(entered.proportional_p).all()


def test_without_a_eureka_or_an_arm_it_is_refused():
    with pytest.raises(NoRuns, match="no eureka"):
        cox(censored([5, 6], [False, False]), design=one_term([0, 1]), cluster=None)
    with pytest.raises(NoRuns, match="expected one of maintained, not"):
        log_rank(aml(), arm="arm", between=("maintained", "none"))
