"""The moving average of weights: its formula, each member's own, and that nothing of a run notices it."""

from __future__ import annotations

import numpy as np
import pytest
from small_runs import Arrays, alone, assert_same, assert_same_arrays, run, train

from workloads.cohort import Cohort
from workloads.errors import SpecError
from workloads.lanes import AVERAGE
from workloads.spec import RunSpec

STEPS = 24
EVERY = {"log.snapshots": [*range(STEPS), "end"], "log.measures_every_steps": 5, "budget.steps": STEPS}


def member(seed: int = 0, *, decay: float = 0.9, **more: object) -> RunSpec:
    return run(seed, {**EVERY, "average": {"decay": decay}, **more})


def snapshots(members: list[RunSpec], **settings: object) -> dict[tuple[str, int], Arrays]:
    found: dict[tuple[str, int], Arrays] = {}
    train(members, keep=lambda run_id, step, arrays: found.__setitem__((run_id, step), arrays), **settings)
    return found


def test_average_is_that_of_the_formula_step_by_step():
    spec = member(decay=0.9)
    kept = snapshots([spec])
    for name in (name for name in kept[spec.run_id, 0] if not name.startswith(AVERAGE)):
        weights = [kept[spec.run_id, step][name].astype(np.float64) for step in range(STEPS + 1)]
        average = weights[0]
        for step in range(1, STEPS + 1):
            average = 0.9 * average + 0.1 * weights[step]
            np.testing.assert_allclose(kept[spec.run_id, step][AVERAGE + name], average, rtol=1e-4, atol=1e-7)
        assert not np.array_equal(kept[spec.run_id, STEPS][AVERAGE + name], kept[spec.run_id, STEPS][name])


def test_members_of_one_cohort_have_decays_of_their_own():
    short, long = member(decay=0.5), member(decay=0.999)
    assert short.shape_key == long.shape_key
    assert short.run_id != long.run_id
    kept = snapshots([short, long])
    name = next(iter(kept[short.run_id, 0]))
    moved = [
        np.abs(kept[spec.run_id, STEPS][AVERAGE + name] - kept[spec.run_id, STEPS][name]).max()
        for spec in (short, long)
    ]
    assert moved[1] > 3 * moved[0]


def test_averages_have_the_same_bits_alone_in_company_refilled_and_narrowed():
    given = [member(seed, decay=0.8 + 0.05 * seed, **{"budget.steps": 9 + 5 * seed}) for seed in range(3)]
    assert_same(train(given), alone(given))
    assert_same(train(given[::-1], width=2), alone(given))
    together, single = snapshots(given[::-1], width=2), {}
    for spec in given:
        single |= snapshots([spec])
    assert together.keys() == single.keys()
    for key, arrays in single.items():
        assert_same_arrays(together[key], arrays, what=str(key))


def test_averages_resume_bitwise():
    given = [member(seed, decay=0.9) for seed in range(2)]
    killed = Cohort(given, width=2)
    killed.advance(ticks=13)
    assert_same(train(given, saved=killed.state().get), alone(given))


def test_a_slots_next_member_begins_with_its_own_weights():
    first, second = member(0, **{"budget.steps": 6}), member(1)
    kept = snapshots([first, second], width=1)
    for name, values in kept[second.run_id, 0].items():
        if not name.startswith(AVERAGE):
            np.testing.assert_array_equal(kept[second.run_id, 0][AVERAGE + name], values)


def test_scores_of_an_average_without_memory_are_those_of_the_weights():
    spec = member(decay=0.0)
    [outcome] = train([spec]).values()
    at = outcome.measured_steps
    np.testing.assert_allclose(outcome.measures["average_loss"], outcome.metrics["loss"][at], rtol=1e-5)
    np.testing.assert_allclose(outcome.measures["average_accuracy"], outcome.metrics["accuracy"][at])
    slow = train([member(decay=0.999)])[member(decay=0.999).run_id].measures
    assert np.ptp(slow["average_loss"]) < np.ptp(outcome.measures["average_loss"])


def test_training_does_not_see_the_average_and_other_runs_keep_their_ids():
    without = run(0, EVERY)
    [plain], [averaged] = train([without]).values(), train([member()]).values()
    assert_same_arrays(plain.metrics, averaged.metrics)
    assert "average" not in without.columns()
    assert not {"average_loss", "average_accuracy"} & plain.measures.keys()
    assert without.shape_key != member().shape_key


@pytest.mark.parametrize(("decay", "says"), [(1.0, "a number < 1"), (-0.1, "a number >= 0"), ("long", "a number")])
def test_a_decay_that_averages_nothing_is_refused(decay, says):
    with pytest.raises(SpecError, match=r"average\.decay: got .*; expected " + says):
        member(decay=decay)
