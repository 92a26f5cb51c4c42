"""What a config scores over its runs."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, t

from orchestrator.search.objectives import OBJECTIVES, Constraint, Objective, scores, unusable
from orchestrator.search.proposal import Outcome


def run(
    event: int | None = None,
    *,
    steps: int = 100,
    status: str = "finished",
    loss: float | None = 0.5,
    replicate: int = 0,
) -> Outcome:
    return Outcome(replicate=replicate, status=status, event_step=event, steps=steps, budget=100, final_loss=loss)


def of(kind: str, by_step: int | None = None) -> Objective:
    return Objective(kind=kind, by_step=by_step, is_maximised=OBJECTIVES[kind], label=kind)


runs = st.lists(
    st.builds(
        run,
        st.none() | st.integers(1, 100),
        steps=st.integers(1, 100),
        status=st.sampled_from(["finished", "diverged", "failed"]),
        loss=st.floats(0, 10),
    ),
    min_size=1,
    max_size=12,
)


def test_a_probability_is_jeffreys_with_its_interval() -> None:
    outcomes = [run(10), run(20), run(60), run(None)]
    score = of("p_eureka", 50).score(outcomes)
    assert score is not None
    assert score.value == pytest.approx(beta(2.5, 2.5).mean())
    assert (score.low, score.high) == pytest.approx(beta(2.5, 2.5).interval(0.95))


def test_few_seeds_do_not_say_zero_or_one() -> None:
    none, all_ = of("p_eureka").score([run(None)] * 2), of("p_eureka").score([run(5)] * 2)
    assert none is not None
    assert all_ is not None
    assert (none.value, all_.value) == pytest.approx((1 / 6, 5 / 6))
    assert (none.low, all_.high) == (0.0, 1.0)


def test_a_restricted_mean_counts_late_and_missing_events_at_the_horizon() -> None:
    score = of("rmst", 50).score([run(10), run(80), run(None), run(None, status="diverged", steps=3)])
    assert score is not None
    assert score.value == pytest.approx((10 + 50 + 50 + 50) / 4)
    half = t.ppf(0.975, 3) * 20 / math.sqrt(4)
    assert score.low == pytest.approx(40 - half)
    assert score.high == 50.0  # no later than one looks


def test_one_run_has_a_mean_and_no_interval() -> None:
    score = of("run_steps").score([run(steps=40)])
    assert score is not None
    assert (score.value, score.low, score.high) == (40.0, None, None)


def test_a_plateau_without_end_is_as_long_as_the_budget() -> None:
    score = of("plateau_length").score([run(30), run(None)])
    assert score is not None
    assert score.value == 65.0


def test_a_median_step_takes_missing_events_for_late_ones() -> None:
    score = of("median_step").score([run(10), run(30), run(None)])
    assert score is not None
    assert score.value == 30.0


def test_a_diverged_runs_final_loss_is_infinite() -> None:
    some = of("final_loss").score([run(loss=0.1), run(loss=0.3), run(status="diverged", loss=7.0)])
    most = of("final_loss").score([run(loss=0.1), run(status="diverged"), run(status="diverged")])
    assert some is not None
    assert some.value == 0.3
    assert most is not None
    assert math.isinf(most.value)
    assert unusable({"final_loss": most}, objectives=[of("final_loss")]) == "final_loss is not finite"


def test_failed_runs_say_nothing_and_only_failed_runs_are_told_as_such() -> None:
    objective = of("p_eureka")
    assert objective.score([run(5), run(status="failed")]) == objective.score([run(5)])
    found = scores([run(status="failed")], objectives=[objective])
    assert found == {}
    assert unusable(found, objectives=[objective]) == "every run failed"


def test_a_run_without_a_loss_leaves_nothing_to_tell() -> None:
    assert of("final_loss").score([run(loss=None), run(loss=math.nan)]) is None


@given(runs, st.sampled_from(sorted(OBJECTIVES)), st.randoms())
def test_the_order_of_runs_never_matters(outcomes: list[Outcome], kind: str, rng: random.Random) -> None:
    shuffled = list(outcomes)
    rng.shuffle(shuffled)
    one, other = of(kind).score(outcomes), of(kind).score(shuffled)
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert one.value == pytest.approx(other.value)


@given(runs, st.sampled_from(sorted(OBJECTIVES)))
def test_every_interval_holds_its_value(outcomes: list[Outcome], kind: str) -> None:
    score = of(kind).score(outcomes)
    if score is not None and score.low is not None and score.high is not None:
        assert score.low - 1e-9 <= score.value <= score.high + 1e-9


def test_a_constraint_is_kept_on_its_bound() -> None:
    least, most = (Constraint(objective=of("p_eureka"), bound=0.5, is_least=least) for least in (True, False))
    assert [least.excess(value) for value in (0.25, 0.5, 0.75)] == [0.25, 0.0, -0.25]
    assert [most.excess(value) for value in (0.25, 0.5, 0.75)] == [-0.25, 0.0, 0.25]
