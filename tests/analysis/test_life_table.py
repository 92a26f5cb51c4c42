"""Who is at risk when: late entries, and what they do to the certainty of an estimate."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_survival import events

from analysis.errors import NoRuns, NoSuchColumn
from analysis.interval import binomial_interval
from analysis.life_table import at_risk
from analysis.survival import chance_by_step, curve

late_runs = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 20), st.sampled_from("ecd")), min_size=1, max_size=20)


@given(late_runs)
def test_runs_at_risk_are_those_of_the_curve(runs):
    entry, steps = [e for e, _, _ in runs], [e + s for e, s, _ in runs]
    table = events(steps, [w for _, _, w in runs], entry_step=entry)
    lines = curve(table)
    found = at_risk(table, at_steps=lines["step"].to_list())
    assert found["at_risk"].to_list() == lines["at_risk"].to_list()


def test_a_late_run_is_at_risk_after_its_entry_alone():
    # by hand: one from the start, one from 5 to 12, one from 8 to 9
    table = events([20, 12, 9], "cec", entry_step=[None, 5, 8])
    found = at_risk(table, at_steps=[0, 5, 6, 9, 10, 13, 21])
    assert found["at_risk"].to_list() == [1, 1, 2, 3, 2, 1, 0]


def test_without_entries_all_are_at_risk_until_they_leave():
    table = events([5, 9, 9], "ecd", arm=["a", "b", "b"])
    found = at_risk(table, at_steps=[0, 5, 6], by=["arm"])
    assert found["arm"].to_list() == ["a"] * 3 + ["b"] * 3
    assert found["at_risk"].to_list() == [1, 1, 0, 2, 2, 2]


def test_runs_that_enter_later_add_no_certainty():
    # at step 10 two runs have been watched; the eight that enter at 20 cannot say that P by 10 is low
    few = events([50] * 2, "cc")
    more = events([50] * 10, "c" * 10, entry_step=[None] * 2 + [20] * 8)
    for each in (few, more):
        first = chance_by_step(pl.concat([each]), at_steps=[10]).row(0, named=True)
        assert (first["chance"], first["chance_hi"]) == pytest.approx((0.0, binomial_interval(0, n=2)[1]))


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(NoRuns):
        at_risk(events([5], "f"), at_steps=[1])
    with pytest.raises(NoSuchColumn, match="'arm'"):
        at_risk(events([5], "e"), at_steps=[1], by=["arm"])
