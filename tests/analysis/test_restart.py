"""When to begin again: COCO's cost, a law whose best restart is known, and what is left out where nothing is known."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from test_survival import events

from analysis.errors import AnalysisError
from analysis.resample import bootstrap_weights, groups_of
from analysis.restart import cost_by_step, restart_step
from analysis.survival import curve, restricted_mean

runs_of_ways = st.lists(st.tuples(st.integers(1, 30), st.sampled_from("ecd")), min_size=1, max_size=25)


@given(runs_of_ways)
def test_weight_one_gives_the_plain_curve(runs):
    steps, ways = zip(*runs, strict=True)
    table = events(steps, ways)
    found = groups_of(table, by=(), strata=())[0][1].tables(np.ones((1, len(runs))))
    plain = (
        curve(table)
        .filter(pl.col("at_risk") > 0)
        .filter(pl.col("n_eureka") + pl.col("n_lost") + pl.col("n_censored") > 0)
    )
    np.testing.assert_allclose(found.chance[0], plain["chance"].to_numpy(), atol=1e-12)


@given(runs_of_ways, st.randoms(use_true_random=False))
def test_a_weight_is_as_many_copies(runs, random):
    copies = [max(random.randint(0, 3), int(i == 0)) for i in range(len(runs))]
    many = events(*zip(*(run for run, k in zip(runs, copies, strict=True) for _ in range(k)), strict=True))
    table = events(*zip(*runs, strict=True)).with_columns(copies=pl.Series(copies))
    weights = table.sort("end_step", maintain_order=True)["copies"].to_numpy()[None, :].astype(float)
    at = np.arange(1.0, 31.0)
    one, other = (groups_of(rows, by=(), strata=())[0][1] for rows in (table, many))
    plain = other.tables(np.ones((1, len(other.exit))))
    np.testing.assert_allclose(one.tables(weights).chance_at(at), plain.chance_at(at), atol=1e-12)


def test_resamples_keep_the_runs_of_each_config():
    strata = np.array([0, 0, 0, 1, 1])
    drawn = bootstrap_weights(strata, resamples=50, rng=np.random.default_rng(0))
    assert (drawn[:, strata == 0].sum(axis=1) == 3).all()
    assert (drawn[:, strata == 1].sum(axis=1) == 2).all()
    assert len(np.unique(drawn, axis=0)) > 10


def test_cost_is_cocos_ert():
    found = cost_by_step(events([1, 2, 4, 2, 6, 100], "eddddd"), at_steps=[100]).row(0, named=True)
    assert found["steps_per_eureka"] == pytest.approx(115)
    assert found["steps_per_eureka_lo"] < 115
    assert found["steps_per_eureka_hi"] is None  # a third of the resamples have no eureka


def test_simulated_restarts_cost_what_the_formula_says():
    # cocopp's data again: draw runs until one succeeds, and count the steps; SP1, which it sets beside ERT, is the
    # mean of the successes over p: 1 / (1/6) = 6
    steps, came = np.array([1, 2, 4, 2, 6, 100]), np.array([True, False, False, False, False, False])
    rng, cost = np.random.default_rng(0), np.zeros(20_000)
    running = np.ones(len(cost), dtype=bool)
    while running.any():
        drawn = rng.integers(0, 6, len(cost))
        cost += np.where(running, steps[drawn], 0)
        running &= ~came[drawn]
    error = cost.std() / np.sqrt(len(cost))
    table = events(steps, ["e" if each else "d" for each in came])
    found = cost_by_step(table, at_steps=[100]).row(0, named=True)
    assert found["steps_per_eureka"] == pytest.approx(cost.mean(), abs=4 * error)
    chance = curve(table)["chance"].max()
    assert (chance, steps[came].mean() / chance) == pytest.approx((1 / 6, 6))


@given(runs_of_ways, st.integers(2, 30))
def test_cost_equals_the_table_of_estimates(runs, until):
    table = events(*zip(*runs, strict=True))
    mine = cost_by_step(table, at_steps=[until], resamples=20)["steps_per_eureka"][0]
    theirs = restricted_mean(table, until_step=until)["steps_per_eureka"][0]
    assert mine == (pytest.approx(theirs) if theirs is not None else None)


def test_best_restart_of_a_known_law_is_found():
    # half of the runs at log-normal steps (median 4,900, sigma .6), the rest never, budget 20,000; the law integrated
    at = np.linspace(1, 20_000, 100_000)
    share = 0.5 * norm.cdf(np.log(at / 4900) / 0.6)
    cost = np.cumsum(1 - share) * (at[1] - at[0]) / share
    rng = np.random.default_rng(0)
    steps = np.where(rng.random(40_000) < 0.5, rng.lognormal(np.log(4900), 0.6, 40_000), np.inf)
    table = events(np.minimum(steps, 20_000), np.where(steps <= 20_000, "e", "c"))
    found = restart_step(table, until_step=20_000, resamples=20).row(0, named=True)
    assert found["restart_step"] == pytest.approx(at[cost.argmin()], rel=0.06)  # 7.1k
    assert found["steps_per_eureka"] == pytest.approx(cost.min(), rel=0.02)  # 16.4k
    assert found["saved"] == pytest.approx(1 - cost.min() / cost[-1], abs=0.01)  # of 26.1k


def test_where_all_succeed_at_once_nothing_is_saved():
    found = restart_step(events([50, 50, 50], "eee"), resamples=20).row(0, named=True)
    assert (found["restart_step"], found["steps_per_eureka"], found["saved"]) == (50, 50, 0)
    assert (found["restart_step_lo"], found["restart_step_hi"]) == (0, 50)  # no run says that 40 would not do


def test_no_eureka_has_no_restart_step():
    found = restart_step(events([90, 100, 50], "ccd"), resamples=20).row(0, named=True)
    assert (found["restart_step"], found["steps_per_eureka"], found["n_eureka"], found["n"]) == (None, None, 0, 3)


def test_groups_come_in_order_and_as_if_alone():
    one, other = events([5, 9, 30], "ecd", arm=["b"] * 3), events([7, 8], "ee", arm=["a"] * 2)
    both = restart_step(pl.concat([one, other]), by=["arm"], resamples=20, strata=())
    assert both["arm"].to_list() == ["a", "b"]
    alone = [restart_step(rows, by=["arm"], resamples=20, strata=())["steps_per_eureka"][0] for rows in (other, one)]
    assert both["steps_per_eureka"].to_list() == alone


def test_same_seed_is_equal_and_another_differs():
    table = events([20, 30, 41, 100, 100, 100, 12, 77], "eeecccee")
    draw = lambda seed: restart_step(table, resamples=30, seed=seed)  # noqa: E731
    assert draw(1).equals(draw(1))
    assert not draw(1).equals(draw(2))


def test_what_cannot_be_drawn_is_said_in_one_line():
    with pytest.raises(AnalysisError, match="resamples: got 3"):
        restart_step(events([5], "e"), resamples=3)
    with pytest.raises(AnalysisError, match="at_steps: got \\[0\\]"):
        cost_by_step(events([5], "e"), at_steps=[0])
