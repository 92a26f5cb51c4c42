"""What must not change an event: scale and shift of the metric, the unit of time, the order and company of runs."""

import numpy as np
from curves import TASK, long_family, short_run, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.detect import detect_events


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 100), st.floats(-5, 5), st.integers(0, 1000))
def test_scale_and_shift_of_the_metric_change_no_kind(scale, shift, seed):
    rng = np.random.default_rng(seed)
    curves = [short_run(rng, at=at) for at in (260, 500, 1000, None)]
    runs, metrics = tables(curves, floor=0.01, plateau=0.95)
    moved, moved_metrics = tables(
        [scale * c + shift for c in curves], floor=scale * 0.01 + shift, plateau=scale * 0.95 + shift
    )
    before, after = detect_events(metrics, runs=runs), detect_events(moved_metrics, runs=moved)
    assert before["kind"].equals(after["kind"])
    np.testing.assert_allclose(after["eureka_step"].drop_nulls(), before["eureka_step"].drop_nulls(), rtol=1e-3)


def test_three_loss_plus_two_is_the_same_run():
    curves = [
        long_family(name, sd=0.1)(np.random.default_rng(5))[0].astype(np.float32).astype(float)
        for name in ("sharp", "gradual")
    ]
    one_way, other = tables(curves), tables([3 * c + 2 for c in curves], floor=2.0)
    first, second = (detect_events(metrics, runs=runs) for runs, metrics in (one_way, other))
    assert first["kind"].equals(second["kind"])
    np.testing.assert_allclose(first["eureka_step"].drop_nulls(), second["eureka_step"].drop_nulls(), rtol=1e-5)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(["sharp", "abrupt", "exponential", "transient", "none"]), st.integers(0, 1000))
def test_twice_the_time_doubles_the_step_and_keeps_the_event(name, seed):
    rng = np.random.default_rng([seed, 7])
    curves = [long_family(name, sd=0.1)(rng)[0] for _ in range(4)]
    slow = [np.repeat(curve, 2) for curve in curves]
    before, after = (detect_events(metrics, runs=runs) for runs, metrics in (tables(curves), tables(slow)))
    had = before["status"] == "eureka"
    assert before["status"].equals(after["status"])
    # to the resolution of a bin: the first 369 steps have narrower ones, in octaves, and a bin of twice the steps
    np.testing.assert_allclose((after["eureka_step"] / before["eureka_step"]).drop_nulls(), 2, rtol=0.02)
    np.testing.assert_allclose((after["rise_ratio"] / before["rise_ratio"]).filter(had), 1, rtol=0.08)


@given(st.randoms())
@settings(max_examples=5, deadline=None)
def test_order_and_company_of_runs_change_nothing(random):
    rng = np.random.default_rng(0)
    runs, metrics = tables([short_run(rng, at=at) for at in (300, 700, None, 1200)], **TASK)
    order = list(range(runs.height))
    random.shuffle(order)
    together = detect_events(metrics, runs=runs).sort("run_id")
    shuffled = detect_events(metrics.collect().sample(fraction=1, shuffle=True, seed=1).lazy(), runs=runs[order])
    assert shuffled["run_id"].equals(runs[order]["run_id"])
    assert shuffled.sort("run_id").equals(together)
    assert detect_events(metrics, runs=runs[[1]]).equals(together[[1]])
