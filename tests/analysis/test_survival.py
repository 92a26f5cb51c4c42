"""Survival estimates against R, lifelines, COCO's formula, and identities that must hold."""

import lifelines
import lifelines.utils
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import AnalysisError, NoRuns, NoSuchColumn
from analysis.interval import binomial_interval
from analysis.life_table import life_table
from analysis.survival import (
    cell_estimates,
    censor_undetectable,
    chance_by_step,
    curve,
    mean_with_error,
    median_step,
    restricted_mean,
)


def events(steps, ways, **groups):
    """EVENTS rows from exit steps and ways: e eureka, d diverged, c censored, f failed, g gradual."""
    status = {"e": "eureka", "d": "diverged", "c": "censored", "f": "failed", "g": "censored"}
    kind = {"e": "eureka", "d": "diverged", "c": "none", "f": "failed", "g": "gradual"}
    steps = [float(step) for step in steps]
    return pl.DataFrame(
        {
            "status": [status[w] for w in ways],
            "kind": [kind[w] for w in ways],
            "eureka_step": [s if w == "e" else None for s, w in zip(steps, ways, strict=True)],
            "solved_step": [s if w == "g" else None for s, w in zip(steps, ways, strict=True)],
            "censored_step": [s if w in "cg" else None for s, w in zip(steps, ways, strict=True)],
            "end_step": steps,
            "detectable_step": [0.8 * s for s in steps],
            **groups,
        },
        schema_overrides=dict.fromkeys(("eureka_step", "solved_step", "censored_step"), pl.Float64),
    )


# aml, maintained arm; R survival, doaml.Rout.save (Miller 1981)
AML_MAINTAINED = ([9, 13, 13, 18, 23, 28, 31, 34, 45, 48, 161], "eeceececcec")
AML_OTHER = ([5, 5, 8, 8, 12, 16, 23, 27, 30, 33, 43, 45], "eeeeeceeeeee")
runs_of_ways = st.lists(st.tuples(st.integers(1, 30), st.sampled_from("ecd")), min_size=1, max_size=25)


def test_aml_maintained_arm_matches_rs_curve():
    found = curve(events([9, 13, 13, 18, 23, 28, 31, 34, 45, 48, 161], "eeceeceecec"))
    at_events = found.filter(pl.col("n_eureka") > 0)
    assert at_events["step"].to_list() == [9, 13, 18, 23, 31, 34, 48]
    assert (1 - at_events["chance"]).round(3).to_list() == [0.909, 0.818, 0.716, 0.614, 0.491, 0.368, 0.184]


def test_aml_medians_match_r():
    steps = AML_MAINTAINED[0] + AML_OTHER[0]
    arms = ["maintained"] * 11 + ["not"] * 12
    found = median_step(events(steps, "eeceeceecec" + AML_OTHER[1], arm=arms), by=["arm"])
    assert dict(found.select("arm", "median_step").iter_rows()) == {"maintained": 31.0, "not": 23.0}


def test_six_patients_match_the_vignettes_curve():
    # R survival `validate` vignette: time 1,1,6,6,8,9, status 1,0,1,1,0,1; S is 5/6, 5/12, 0 at 1, 6, 9 by hand
    found = curve(events([1, 1, 6, 6, 8, 9], "eceece")).filter(pl.col("n_eureka") > 0)
    assert found["chance"].to_list() == pytest.approx([1 / 6, 1 - 5 / 12, 1.0])


def test_martingale_residuals_of_six_patients_are_the_vignettes():
    # the same six, beta = 0, Breslow: status less the hazard summed to the exit is 5/6, -1/6, 1/3, 1/3, -2/3, -2/3
    steps, ways = [1, 1, 6, 6, 8, 9], "eceece"
    _, table = life_table(events(steps, ways), by=[])
    hazard = [table.filter(pl.col("step") <= step)["hazard"].sum() for step in steps]
    residuals = [(way == "e") - summed for way, summed in zip(ways, hazard, strict=True)]
    assert residuals == pytest.approx([5 / 6, -1 / 6, 1 / 3, 1 / 3, -2 / 3, -2 / 3])


def test_lung_median_matches_r():
    # R survival, r_lung.Rout.save: 228 patients, 165 events, median 310
    frame = pytest.importorskip("lifelines.datasets").load_lung()
    found = median_step(events(frame["time"], ["e" if status == 1 else "c" for status in frame["status"]]))
    assert found.row(0, named=True)["median_step"] == 310


def test_eight_subjects_match_rs_aalen_johansen():
    # R survival testci.R: cause 1 is 1/7 from 2; cause 2 is 12/35 at 3 and 6/7 at 6
    times, causes = [1, 2, 2, 3, 3, 3, 5, 6], [0, 1, 0, 2, 0, 2, 0, 2]
    found = curve(events(times, ["ced"[cause] for cause in causes]))
    read = {row["step"]: row for row in found.iter_rows(named=True)}
    assert read[2.0]["chance"] == pytest.approx(1 / 7)
    assert (read[3.0]["lost"], read[6.0]["lost"]) == pytest.approx((12 / 35, 6 / 7))
    assert read[6.0]["chance"] == pytest.approx(1 / 7)


@given(runs_of_ways)
def test_without_divergence_the_curve_is_lifelines_kaplan_meier(runs):
    steps, ways = [s for s, _ in runs], ["c" if w == "d" else w for _, w in runs]
    fitted = lifelines.KaplanMeierFitter().fit(steps, [w == "e" for w in ways])
    found = curve(events(steps, ways)).filter(pl.col("step") > 0)
    theirs = fitted.survival_function_at_times(found["step"].to_list()).to_numpy()
    np.testing.assert_allclose(1 - found["chance"].to_numpy(), theirs, atol=1e-12)


@given(runs_of_ways)
def test_restricted_mean_equals_lifelines(runs):
    steps, ways = [s for s, _ in runs], ["c" if w == "d" else w for _, w in runs]
    until = max(steps)
    fitted = lifelines.KaplanMeierFitter().fit(steps, [w == "e" for w in ways])
    found = restricted_mean(events(steps, ways), until_step=until)["restricted_mean"][0]
    assert found == pytest.approx(lifelines.utils.restricted_mean_survival_time(fitted, t=until), abs=1e-9)


@given(runs_of_ways)
def test_exits_and_survivors_sum_to_one(runs):
    found = curve(events(*zip(*runs, strict=True)))
    hazard = (found["n_eureka"] + found["n_lost"]) / found["at_risk"]
    np.testing.assert_allclose(found["chance"] + found["lost"], 1 - (1 - hazard).cum_prod(), atol=1e-12)


@given(st.lists(st.tuples(st.integers(1, 99), st.sampled_from("ed")), min_size=1, max_size=20), st.integers(0, 9))
def test_uncensored_chance_is_k_over_n_with_wilsons_interval(runs, waiting):
    steps, ways = zip(*runs, strict=True)
    table = events([*steps, *[100] * waiting], [*ways, *["c"] * waiting])
    found = chance_by_step(table, at_steps=[60]).row(0, named=True)
    k, n = sum(s <= 60 and w == "e" for s, w in runs), len(runs) + waiting
    assert found["chance"] == pytest.approx(k / n)
    assert (found["chance_lo"], found["chance_hi"]) == pytest.approx(binomial_interval(k, n=n), abs=1e-6)


def test_greenwoods_variance_sets_the_censored_interval():
    # by hand: S = 3/4 at 2, then 3/4 * 1/2 at 4; Greenwood sum 1/(4*3) + 1/(2*1) at 4
    found = curve(events([2, 3, 4, 5], "ecec")).filter(pl.col("step") == 4).row(0, named=True)
    f, variance = 5 / 8, (3 / 8) ** 2 * (1 / 12 + 1 / 2)
    n = f * (1 - f) / variance
    z2 = 1.959963984540054**2
    half = np.sqrt(z2) / (1 + z2 / n) * np.sqrt(f * (1 - f) / n + z2 / (4 * n**2))
    centre = (f + z2 / (2 * n)) / (1 + z2 / n)
    assert (found["chance_lo"], found["chance_hi"]) == pytest.approx((centre - half, centre + half))


def test_early_stopped_runs_do_not_count_towards_certainty():
    few = chance_by_step(events([5, 5, 5, 100, 100], "ccccc"), at_steps=[50]).row(0, named=True)
    assert (few["chance"], few["chance_hi"]) == pytest.approx((0.0, binomial_interval(0, n=2)[1]))


def test_divergence_is_an_exit_and_not_censoring():
    both = events([10, 20, 100, 100], "dece")
    as_censored = events([10, 20, 100, 100], "cece")
    read = {"at_steps": [50]}
    assert chance_by_step(both, **read)["chance"][0] == pytest.approx(1 / 4)
    assert chance_by_step(as_censored, **read)["chance"][0] == pytest.approx(1 / 3)


def test_a_gradual_run_can_have_no_eureka_later():
    assert chance_by_step(events([10, 20, 100, 100], "gece"), at_steps=[50])["chance"][0] == pytest.approx(1 / 4)


def test_chance_beyond_the_longest_watched_run_is_null():
    open_ended = chance_by_step(events([10, 50], "ec"), at_steps=[50, 51])["chance"].to_list()
    assert open_ended == [0.5, None]
    assert chance_by_step(events([10, 50], "ed"), at_steps=[51])["chance"].to_list() == [
        0.5
    ]  # nothing is left to wait for


def test_steps_per_eureka_is_cocos_ert():
    # cocopp's docstring data: one success after 1 step, failures after 2, 4, 2, 6, 100: ERT is 115
    found = restricted_mean(events([1, 2, 4, 2, 6, 100], "eddddd"), until_step=100)
    assert found["steps_per_eureka"][0] == pytest.approx(115)


@given(st.lists(st.tuples(st.integers(1, 99), st.sampled_from("ec")), min_size=2, max_size=12))
def test_at_equal_budgets_cost_is_restricted_mean_over_chance(runs):
    steps = [s if w == "e" else 100 for s, w in runs]
    found = restricted_mean(events(steps, [w for _, w in runs]), until_step=100).row(0, named=True)
    k = sum(w == "e" for _, w in runs)
    assert found["restricted_mean"] == pytest.approx(np.mean(steps))
    assert found["steps_per_eureka"] == (pytest.approx(np.sum(steps) / k) if k else None)


def test_restricted_mean_interval_is_students_without_censoring():
    steps = np.array([20.0, 30, 35, 60, 80, 90])
    found = restricted_mean(events(steps, "e" * 6), until_step=100).row(0, named=True)
    half = 2.570581835636314 * steps.std(ddof=1) / np.sqrt(6)  # t(5) quantile
    assert (found["restricted_mean_lo"], found["restricted_mean_hi"]) == pytest.approx(
        (steps.mean() - half, steps.mean() + half)
    )


def test_a_diverged_run_counts_the_whole_horizon_in_the_mean():
    waits = np.array([20.0, 100, 50, 70, 100])
    found = restricted_mean(events([20, 40, 50, 70, 100], "edeec"), until_step=100).row(0, named=True)
    half = 2.7764451051977987 * waits.std(ddof=1) / np.sqrt(5)  # t(4) quantile
    expected = (waits.mean(), waits.mean() - half, min(waits.mean() + half, 100))
    assert tuple(found[f"restricted_mean{end}"] for end in ("", "_lo", "_hi")) == pytest.approx(expected)


def test_restricted_mean_covers_the_truth_as_often_as_it_claims():
    rng, reps, n = np.random.default_rng(3), 400, 16
    truth = float(50 * (1 - np.exp(-100 / 50)))  # of min(exponential with mean 50, 100)
    time = rng.exponential(50, (reps, n))
    stop = np.where(rng.random((reps, n)) < 0.3, rng.uniform(0, 100, (reps, n)), 100.0)
    steps, ways = np.minimum(time, stop).ravel(), np.where(time <= stop, "e", "c").ravel()
    table = events(steps, ways, rep=np.repeat(np.arange(reps), n))
    # a cell whose last run was stopped early identifies no mean to 100: it is null, and not counted
    found = restricted_mean(table, until_step=100, by=["rep"]).drop_nulls("restricted_mean")
    hits = found.filter((pl.col("restricted_mean_lo") <= truth) & (truth <= pl.col("restricted_mean_hi"))).height
    assert found.height > 300
    assert 0.91 <= hits / found.height <= 0.99


def test_cost_where_every_run_succeeds_allows_for_failures_unseen():
    found = restricted_mean(events([20, 30, 35, 60, 80, 90], "e" * 6), until_step=100).row(0, named=True)
    assert found["steps_per_eureka"] == pytest.approx(found["restricted_mean"])
    low = binomial_interval(6, n=6)[0]  # P may be as low as that
    assert found["steps_per_eureka_hi"] >= found["restricted_mean_hi"]
    assert found["steps_per_eureka_hi"] > found["restricted_mean"] / low


def test_cost_interval_is_square_and_add_on_logarithms():
    # by hand, uncensored: 3 of 8 at 10, 40, 70, the others watched to 100
    steps = np.array([10.0, 40, 70, 100, 100, 100, 100, 100])
    came = steps < 100
    found = restricted_mean(events(steps, ["e" if c else "c" for c in came]), until_step=100).row(0, named=True)
    spread = 2.3646242515927844 * steps.std(ddof=1) / np.sqrt(8) / steps.mean()  # t(7) quantile
    low, high = binomial_interval(3, n=8)
    alike = -np.corrcoef(steps, came)[0, 1]
    for end, side, sign in (("lo", np.log(high / 0.375), -1), ("hi", np.log(0.375 / low), 1)):
        joined = np.sqrt(spread**2 + side**2 + 2 * alike * spread * side)
        expected = steps.mean() / 0.375 * np.exp(sign * joined)
        assert found[f"steps_per_eureka_{end}"] == pytest.approx(expected, rel=1e-6)


def test_one_eureka_still_bounds_the_cost():
    found = restricted_mean(events([40, 100, 100, 100], "eccc"), until_step=100).row(0, named=True)
    assert found["steps_per_eureka"] == pytest.approx(340)
    assert 0 < found["steps_per_eureka_lo"] < 340 < found["steps_per_eureka_hi"] < 340 / 0.01


def test_no_eureka_leaves_an_open_mean_and_no_cost():
    found = restricted_mean(events([100] * 8, "c" * 8), until_step=100).row(0, named=True)
    assert (found["restricted_mean"], found["restricted_mean_hi"], found["steps_per_eureka"]) == (100, 100, None)
    assert found["restricted_mean_lo"] == pytest.approx(100 * (1 - binomial_interval(0, n=8)[1]))


@given(runs_of_ways, st.randoms())
def test_order_of_runs_changes_nothing(runs, random):
    shuffled = list(runs)
    random.shuffle(shuffled)
    one, other = (curve(events(*zip(*rows, strict=True))) for rows in (runs, shuffled))
    assert one.equals(other)


@given(runs_of_ways)
def test_time_scale_moves_steps_and_no_chance(runs):
    steps, ways = zip(*runs, strict=True)
    one, seven = curve(events(steps, ways)), curve(events([7 * s for s in steps], ways))
    assert one.with_columns(pl.col("step") * 7).equals(seven)


def test_groups_are_estimated_as_if_alone():
    first, second = events([5, 9, 30], "ecd", arm=["a"] * 3), events([7, 8], "ee", arm=["b"] * 2)
    together = curve(pl.concat([second, first]), by=["arm"])
    alone = pl.concat([curve(first, by=["arm"]), curve(second, by=["arm"])])
    assert together.equals(alone)


def test_failed_runs_are_left_out_and_alone_are_refused():
    assert curve(events([5, 9], "fe"))["n"].max() == 1
    with pytest.raises(NoRuns, match="did not fail"):
        curve(events([5], "f"))


def test_undetectable_events_become_censored_ones():
    found = censor_undetectable(events([100, 79, 81], "cee"))
    assert found["status"].to_list() == ["censored", "eureka", "censored"]
    assert found["censored_step"].to_list() == [80, None, 80]


@given(runs_of_ways)
def test_cell_estimates_are_the_single_ones_side_by_side(runs):
    steps, ways = zip(*runs, strict=True)
    table = events(steps, ways, arm=["ab"[i % 2] for i in range(len(runs))])
    found = cell_estimates(table, at_step=12, by=["arm"])
    parts = [
        chance_by_step(table, at_steps=[12], by=["arm"]).drop("step", "n"),
        median_step(table, by=["arm"]).drop("n"),
        restricted_mean(table, until_step=12, by=["arm"]),
    ]
    assert found.equals(parts[0].join(parts[1], on="arm").join(parts[2], on="arm"))


late_runs = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 20), st.sampled_from("ec")), min_size=1, max_size=20)


@given(late_runs)
def test_delayed_entry_equals_lifelines(runs):
    runs = [*runs, (0, 40, "c")]  # somebody is always at risk: lifelines refuses where nobody is
    entry, steps = [e for e, _, _ in runs], [e + s for e, s, _ in runs]
    ways = [w for _, _, w in runs]
    fitted = lifelines.KaplanMeierFitter().fit(steps, [w == "e" for w in ways], entry=entry)
    found = curve(events(steps, ways, entry_step=entry)).filter(pl.col("step") > 0)
    theirs = fitted.survival_function_at_times(found["step"].to_list()).to_numpy()
    np.testing.assert_allclose(1 - found["chance"].to_numpy(), theirs, atol=1e-12)


def test_a_late_run_counts_only_after_its_entry():
    # by hand: one of two at risk at 5, then one of two at 9
    found = curve(events([5, 12, 9], "ece", entry_step=[None, None, 5])).filter(pl.col("n_eureka") > 0)
    assert found["at_risk"].to_list() == [2, 2]
    assert found["chance"].to_list() == pytest.approx([1 / 2, 3 / 4])
    assert found["n"].to_list() == [3, 3]


@given(runs_of_ways)
def test_entry_at_the_start_changes_nothing(runs):
    steps, ways = zip(*runs, strict=True)
    plain, entered = events(steps, ways), events(steps, ways, entry_step=[i % 2 or None for i in range(len(runs))])
    entered = entered.with_columns(entry_step=pl.col("entry_step") * 0)
    assert curve(plain).equals(curve(entered))


def test_a_run_that_left_before_it_entered_is_refused():
    with pytest.raises(AnalysisError, match="got 9; expected one before the exit at 5"):
        curve(events([5, 20], "ec", entry_step=[9, 0]))


def test_an_unknown_grouping_column_is_named():
    with pytest.raises(NoSuchColumn, match=r"'optim\.lt'"):
        curve(events([5], "e"), by=["optim.lt"])


@pytest.mark.parametrize(
    ("ways", "chance", "median", "mean"),
    [("e", 1.0, 5.0, 5.0), ("cccc", 0.0, None, 5.0), ("dddd", 0.0, None, 9.0), ("eeee", 1.0, 5.0, 5.0)],
)
def test_cells_of_one_way_have_their_plain_values(ways, chance, median, mean):
    until = 5 if "c" in ways else 9
    found = cell_estimates(events([5] * len(ways), ways), at_step=until).row(0, named=True)
    assert (found["chance"], found["median_step"], found["restricted_mean"]) == (chance, median, pytest.approx(mean))
    assert (found["steps_per_eureka"] is None) == (chance == 0)


def test_standard_error_of_the_mean_is_the_plain_one_without_censoring():
    steps = np.array([20.0, 30, 35, 60, 80, 90])
    found = mean_with_error(events(steps, "e" * 6), until_step=100)
    assert (found.mean, found.se, found.n) == pytest.approx((steps.mean(), steps.std(ddof=1) / np.sqrt(6), 6))
