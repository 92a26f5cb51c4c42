"""Looks again and again: coverage and errors are those of the whole procedure."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from analysis.errors import AnalysisError
from analysis.interval import binomial_interval
from analysis.sequential import difference_interval, log_rank_z, look_sizes, spending_bounds, width_rule

FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.mark.parametrize("width", [0.4, 0.3, 0.2])
def test_every_stretch_of_chances_is_covered(width):
    rule = width_rule(width)
    for low in np.arange(0.0, 1.0, 0.1):
        covered, _ = rule.coverage(np.linspace(low, low + 0.1, 41)[:-1] + 0.00125)
        assert covered.mean() > 0.945


def test_without_the_raised_level_coverage_falls_short():
    rule = width_rule(0.3)
    plain = type(rule)(**{**vars(rule), "look_level": 0.95})
    covered, _ = plain.coverage(np.linspace(0.5, 1.0, 200, endpoint=False))
    stretches = covered.reshape(5, -1).mean(1)
    assert stretches.min() < 0.945


def test_exact_coverage_is_that_of_simulated_studies():
    rule, rng = width_rule(0.3), np.random.default_rng(0)
    ends = {(k, n): rule.interval(k, runs=n) for n in range(rule.first, rule.most + 1) for k in range(n + 1)}
    for chance in (0.05, 0.3, 0.5):
        covered, runs = rule.coverage(np.array([chance]))
        held, taken = [], []
        for _ in range(3000):
            n, k = rule.first, int(rng.binomial(rule.first, chance))
            while ends[k, n][1] - ends[k, n][0] > rule.width:
                n, k = n + rule.each, k + int(rng.binomial(rule.each, chance))
            low, high = ends[k, n]
            held.append(low <= chance <= high)
            taken.append(n)
        assert binomtest(sum(held), len(held), covered[0]).pvalue > 1e-3
        assert np.mean(taken) == pytest.approx(runs[0], rel=0.03)


def test_no_study_needs_more_than_the_most():
    rule = width_rule(0.3)
    assert all(rule.is_narrow(k, runs=rule.most) for k in range(rule.most + 1))
    assert not all(rule.is_narrow(k, runs=rule.most - rule.each) for k in range(rule.most - rule.each + 1))


def test_intervals_are_wilsons_at_the_looks_level():
    rule = width_rule(0.3)
    for k, n in ((0, 12), (3, 20), (20, 20)):
        assert rule.interval(k, runs=n) == pytest.approx(binomial_interval(k, n=n, level=rule.look_level))
    assert rule.interval(0, runs=0) == (0.0, 1.0)


def test_bounds_equal_the_published_ones():
    # R package ldbounds 2.0 and its predecessors (Reboussin et al. 2000): five equal looks, two-sided .05
    assert spending_bounds(FIFTHS) == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=1e-3)
    assert spending_bounds(FIFTHS, shape="pocock") == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=1e-3)


def test_one_look_is_a_plain_test():
    assert spending_bounds((1.0,)) == pytest.approx([1.959964], abs=1e-5)


def test_repeated_looks_err_as_often_as_allowed():
    bounds, rng = spending_bounds(FIFTHS, shape="pocock"), np.random.default_rng(1)
    walks = rng.normal(size=(40_000, 5)).cumsum(1) / np.sqrt(np.arange(1, 6))
    wrong = int((np.abs(walks) > bounds).any(1).sum())
    assert binomtest(wrong, 40_000, 0.05).pvalue > 1e-3


def test_differences_equal_newcombes_published_ones():
    # Newcombe 1998, Stat. Med. 17:873, table II, method 10
    assert difference_interval((56, 70), (48, 80), z=1.959964) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert difference_interval((9, 10), (3, 10), z=1.959964) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert difference_interval((10, 10), (0, 20), z=1.959964) == pytest.approx((0.6791, 1.0000), abs=5e-5)
    assert difference_interval((0, 0), (3, 10), z=1.96) == (-1.0, 1.0)


def test_log_rank_equals_rs_on_leukaemia():
    # aml of R's survival package: chi-squared 3.3964
    kept = [(9, 1), (13, 1), (13, 0), (18, 1), (23, 1), (28, 0), (31, 1), (34, 1), (45, 0), (48, 1), (161, 0)]
    not_kept = [(5, 1), (5, 1), (8, 1), (8, 1), (12, 1), (16, 0), (23, 1), (27, 1), (30, 1), (33, 1), (43, 1), (45, 1)]
    arms = [[(float(t), bool(e)) for t, e in arm] for arm in (not_kept, kept)]
    assert log_rank_z(*arms) ** 2 == pytest.approx(3.3964, abs=5e-5)
    assert log_rank_z(*arms) == -log_rank_z(*arms[::-1]) > 0


def test_log_rank_of_no_events_says_nothing():
    assert log_rank_z([(5.0, False)], [(5.0, False)]) == 0.0
    assert log_rank_z([], []) == 0.0


def test_looks_end_with_the_most():
    assert look_sizes(first=8, each=4, most=18) == (8, 12, 16, 18)
    assert look_sizes(first=8, each=4, most=8) == (8,)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: width_rule(0.0), "width: got 0.0"),
        (lambda: width_rule(0.3, level=1.0), "level: got 1.0"),
        (lambda: width_rule(0.3, first=0), "looks: got first 0"),
        (lambda: spending_bounds((0.5, 0.4, 1.0)), "expected numbers above 0 that rise to 1"),
        (lambda: spending_bounds((0.5,)), "expected numbers above 0 that rise to 1"),
        (lambda: spending_bounds(()), "expected numbers above 0 that rise to 1"),
        (lambda: spending_bounds((1.0,), shape="flat"), "shape: got 'flat'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(call, said):
    with pytest.raises(AnalysisError) as caught:
        call()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
