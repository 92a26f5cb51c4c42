from __future__ import annotations

from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweeps import small

from orchestrator import rates
from orchestrator.outlook import DEFAULT_WIDTH
from orchestrator.rates import WIDTHS, candidates, choose_width, known_rates, measure, measured_rates


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which a tick takes 2 ns, and 1 ns more for each run; its clocks go on when they are looked at."""
    clock = partial(next, count(0.0, 1e-3))
    monkeypatch.setattr(rates, "time", SimpleNamespace(thread_time=clock, perf_counter=clock, monotonic=clock))
    monkeypatch.setattr(rates, "_cost", lambda cohort, clock: 2e-9 / cohort.width + 1e-9)


@pytest.mark.usefixtures("steady")
def test_measuring_gives_the_cost_at_each_width(tmp_path: Path):
    found = measure(small(tmp_path).runs[0], widths=(1, 2), device="cpu", seconds=0.05)
    assert found == {1: pytest.approx(3e-9), 2: pytest.approx(2e-9)}


def test_a_real_step_costs_something(tmp_path: Path):
    [cost] = measure(small(tmp_path).runs[0], widths=(2,), device="cpu", seconds=0.01).values()
    assert 0.0 < cost < 10.0


def test_measuring_trains_none_of_the_sweeps_own_runs(tmp_path: Path):
    runs = small(tmp_path).runs
    strangers = rates._strangers(runs[0], 3)
    assert {run.shape_key for run in strangers} == {runs[0].shape_key}
    assert not {run.run_id for run in strangers} & {run.run_id for run in runs}


@pytest.mark.usefixtures("steady")
def test_what_was_measured_is_known_next_time_for_all_runs_of_the_shape(tmp_path: Path):
    first, other = small(tmp_path).runs[:2]
    assert known_rates(first, device="cpu") == {}
    found = measured_rates(first, widths=(1, 2), device="cpu", seconds=0.05)
    assert known_rates(other, device="cpu") == found
    assert known_rates(small(tmp_path, "base.model.width=16").runs[0], device="cpu") == {}


def test_another_torch_or_another_engine_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = small(tmp_path).runs[0]
    measured_rates(spec, widths=(1,), device="cpu", seconds=0.05)
    with monkeypatch.context() as patch:
        patch.setattr(rates.metadata, "version", lambda package: "0.0")
        assert known_rates(spec, device="cpu") == {}
    monkeypatch.setattr(rates, "source_digest", lambda: "another")
    assert known_rates(spec, device="cpu") == {}


def test_widths_beyond_the_time_are_noted_as_tried(tmp_path: Path):
    spec = small(tmp_path).runs[0]
    measured_rates(spec, widths=WIDTHS, device="cpu", seconds=1e-6)
    known = known_rates(spec, device="cpu")
    assert set(known) == set(WIDTHS)
    assert known[WIDTHS[0]] is not None
    assert known[WIDTHS[-1]] is None


def test_a_shape_that_cannot_be_trained_has_no_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> None:
        raise ValueError("this model cannot be built")

    monkeypatch.setattr(rates, "measure", broken)
    assert measured_rates(small(tmp_path).runs[0], widths=(1,), device="cpu", seconds=0.05) == {}


def test_the_smallest_of_the_fast_widths_is_chosen():
    costs = {4: 2.0, 8: 1.02, 16: 1.0, 32: 0.999}
    assert choose_width(costs, device="cpu", company=10**6) == 8
    assert choose_width(costs | {8: 1.1}, device="cpu", company=10**6) == 16


def test_a_wide_cohort_must_pay_for_the_end_of_the_sweep():
    costs = {4: 1.3, 8: 1.05, 16: 1.0, 32: 0.96}
    assert choose_width(costs, device="cpu", company=10**6) == 32
    assert choose_width(costs, device="cpu", company=32) == 8
    assert choose_width(costs, device="cpu", company=32, apart=0.0) == 32, (
        "runs that take their whole budget end together"
    )


@given(company=st.integers(1, 100))
def test_no_candidate_is_wider_than_the_company(company: int):
    found = candidates(device="cpu", company=company)
    assert found
    assert max(found) <= company


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_default_stands_where_nothing_is_known(device: str):
    assert choose_width({}, device=device, company=1000) == DEFAULT_WIDTH[device]


def test_on_cuda_the_capacity_table_gives_the_width_whatever_the_company():
    assert choose_width({4: 0.1, 64: 0.02, 128: 0.03}, device="cuda", company=2) == 64
