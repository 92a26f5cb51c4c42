"""Turnbull's curve against R, counting, Kaplan and Meier's, and its own definition."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_survival import events

from analysis.errors import AnalysisError, NoRuns
from analysis.models.times import Times
from analysis.models.turnbull import interval_curve, masses, stretches
from analysis.survival import curve

# 60 subjects, made by the reference generator of SurPyval 0.25 (MIT); left == right is exact, infinity right-censored
LEFT = [
    5.9, 4.5, 6.1, 9.6, 6.2, 2.3, 13.8, 3.9, 8.13, 11.9, 6.0, 2.0, 0.0, 8.1, 8.4, 13.8, 7.6, 2.0, 0.0, 11.7, 7.6, 11.9,
    3.7, 4.1, 1.5, 9.7, 8.3, 16.2, 15.9, 5.7, 5.6, 8.2, 1.8, 8.0, 7.8, 9.5, 5.41, 8.04, 9.5, 6.1, 4.4, 10.3, 5.8, 0.0,
    5.65, 8.4, 3.7, 6.4, 8.2, 3.6, 11.5, 13.7, 6.0, 16.2, 8.1, 3.6, 9.7, 6.42, 5.7, 11.99,
]  # fmt: skip
RIGHT = [
    7.6, 5.8, 8.2, 12.5, 8.1, 3.9, 16.5, 6.2, 8.13, 14.3, 8.2, 4.3, 1.9, 9.5, 9.7, 16.3, 9.8, 3.8, 1.7, 13.6, 10.4,
    13.7, 6.4, 6.4, 3.7, 11.6, 9.9, np.inf, np.inf, 8.1, 8.2, 10.1, 3.8, 10.1, 10.3, 11.8, 5.41, 8.04, 11.9, 8.2, 5.8,
    12.3, 8.1, 2.3, 5.65, 9.9, 6.5, 8.4, 9.9, 5.9, 14.2, 13.7, 8.3, np.inf, 10.4, 5.7, 12.2, 6.42, 7.7, 11.99,
]  # fmt: skip
# R npsurv 0.5.0 on them (constrained Newton, gradient below 5e-11): right ends and probabilities
NPSURV = {
    1.7: 0.0580757783973686, 3.7: 0.0617801156514238, 3.8: 0.0313240156899314, 5.41: 0.0621808174974118,
    5.65: 0.0747587723019445, 6.2: 0.0259860676423592, 6.42: 0.118706175178591, 8.04: 0.0707007059037832,
    8.13: 0.0794283616718611, 9.7: 0.080073368605663, 9.8: 0.123848443587961, 11.99: 0.10269513351994,
    13.7: 0.0271089110184841, 16.3: 0.0833333333332769,
}  # fmt: skip


def times(low, high, *, is_lost=False):
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    return Times(low, high, np.zeros(len(low)), np.broadcast_to(np.asarray(is_lost), low.shape).copy())


def estimate(known):
    """Right ends and probabilities of the stretches that hold any."""
    _, until, member = stretches(known)
    mass = masses(member, np.ones((1, known.n)), tolerance=1e-12)[0]
    return until[mass > 1e-6], mass[mass > 1e-6]


def bounded(low, high):
    """EVENTS of runs known between two steps; those with no upper one had none."""
    ways = ["e" if np.isfinite(end) else "c" for end in high]
    steps = [end if np.isfinite(end) else start for start, end in zip(low, high, strict=True)]
    return events(steps, ways).with_columns(after_step=pl.Series(low), by_step=pl.Series(high))


def test_sixty_overlapping_bounds_are_rs():
    until, mass = estimate(times(LEFT, RIGHT))
    assert until.tolist() == list(NPSURV)
    np.testing.assert_allclose(mass, list(NPSURV.values()), atol=1e-6)


def test_inspected_turbines_are_counted():
    # 167 parts inspected at eight ages (Nelson 1982, p. 415): bounds that do not overlap leave nothing but counts
    days, cracked = [186.0, 606, 902, 1077, 1209, 1377, 1592, 1932], [5, 16, 12, 18, 18, 2, 6, 17]
    low = np.concatenate([np.repeat([0.0, *days[:-1]], cracked), np.full(73, 1932.0)])
    high = np.concatenate([np.repeat(days, cracked), np.full(73, np.inf)])
    found = interval_curve(bounded(low, high), resamples=20)
    assert found["by_step"].to_list() == days
    np.testing.assert_allclose(found["chance"], np.cumsum(cracked) / 167, atol=1e-6)
    assert found["n"].unique().to_list() == [167]


@given(st.lists(st.tuples(st.integers(1, 20), st.sampled_from("ec")), min_size=1, max_size=20))
def test_exact_steps_give_kaplan_and_meiers_curve(runs):
    steps, ways = zip(*runs, strict=True)
    table = events(steps, ways)
    found = interval_curve(table, stamps="exact", resamples=20)
    plain = curve(table).filter(pl.col("n_eureka") > 0)
    assert found["by_step"].to_list() == plain["step"].to_list()
    np.testing.assert_allclose(found["chance"], plain["chance"], atol=1e-4)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=2, max_size=12), st.randoms())
def test_likelihood_is_no_lower_than_elsewhere(bounds, random):
    known = times([low for low, _ in bounds], [low + width for low, width in bounds])
    _, _, member = stretches(known)
    mass = masses(member, np.ones((1, known.n)), tolerance=1e-12)[0]
    other = np.array([random.random() for _ in mass]) + 1e-9
    best, rival = (np.log(member @ (each / each.sum())).sum() for each in (mass, other))
    assert best >= rival - 1e-6


def test_every_run_has_somewhere_to_have_its_eureka():
    after, until, member = stretches(times(LEFT, RIGHT))
    assert (member.sum(axis=1) > 0).all()
    assert (after <= until).all()


def test_lost_runs_are_never_and_waiting_ones_may_be_late():
    lost = times([5.0, 9.0, 4.0], [5.0, 9.0, np.inf], is_lost=[False, False, True])
    until, mass = estimate(lost)
    assert until.tolist() == [5.0, 9.0, np.inf]
    assert mass == pytest.approx([1 / 3] * 3)
    until, mass = estimate(times([5.0, 9.0, 7.0], [5.0, 9.0, np.inf]))  # its share goes to what comes after 7
    assert mass == pytest.approx([1 / 3, 2 / 3])


def test_intervals_hold_their_estimate_and_narrow_with_runs():
    low, high = np.array(LEFT), np.array(RIGHT)
    few = interval_curve(bounded(low, high), resamples=100)
    many = interval_curve(bounded(np.tile(low, 4), np.tile(high, 4)), resamples=100)
    for found in (few, many):
        assert found.select(pl.col("chance").is_between("chance_lo", "chance_hi").all()).item()
    width = [found.select((pl.col("chance_hi") - pl.col("chance_lo")).mean()).item() for found in (few, many)]
    assert width[1] < 0.75 * width[0]


def test_groups_stand_in_order_and_same_seed_is_equal():
    one = bounded([0.0, 2, 4], [2.0, 4, np.inf]).with_columns(arm=pl.lit("b"))
    other = bounded([0.0, 1], [2.0, 3]).with_columns(arm=pl.lit("a"))
    found = interval_curve(pl.concat([one, other]), by=["arm"], resamples=30)
    assert found["arm"].unique(maintain_order=True).to_list() == ["a", "b"]
    assert found.equals(interval_curve(pl.concat([one, other]), by=["arm"], resamples=30))


def test_no_eureka_leaves_no_row_and_bad_input_one_line():
    assert interval_curve(bounded([5.0, 6], [np.inf, np.inf]), resamples=20).is_empty()
    with pytest.raises(NoRuns):
        interval_curve(events([5], "f"), resamples=20)
    late = bounded([5.0], [6.0]).with_columns(entry_step=pl.lit(2.0))
    with pytest.raises(AnalysisError, match="got late entries"):
        interval_curve(late)
