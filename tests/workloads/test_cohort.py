"""The engine's promises: a run's bits depend on its spec alone, and it ends exactly where its spec says."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import (
    EVENTFUL,
    QUICKSTART,
    Trained,
    alone,
    assert_same,
    assert_same_arrays,
    assert_same_in_company,
    finish,
    follow,
    run,
    runs,
    staggered,
    train,
)

from workloads.cohort import RING_STEPS, Arrays, Cohort
from workloads.errors import UnreadableState
from workloads.spec import RunSpec
from workloads.streams import BLOCK_STEPS

LAST_STEP = 1990  # where the long runs' weights are compared; every long run passes it


@functools.cache
def long_members() -> tuple[RunSpec, ...]:
    """Over 2,000 steps each; all differ in what may differ, and they end at different steps."""
    cosine = {"name": "cosine", "warmup_steps": 30, "end_factor": 0.1}
    changes = [
        {"budget.steps": 2000},
        {"budget.steps": 2130, "optim.lr": 1e-2, "optim.clip_norm": 0.5},
        {"budget.steps": 2051, "model.attention.temperature": 2.0, "optim.schedule": cosine},
        {"budget.steps": 2090, "optim.weight_decay": 0.3, "optim.beta2": 0.95, "task.noise": 0.5},
    ]
    return tuple(run(seed, change) for seed, change in enumerate(changes))


@functools.cache
def long_alone() -> tuple[Trained, dict[str, Arrays]]:
    """The reference: outcomes and late weights of the long members, each in a cohort of its own."""
    outcomes: Trained = {}
    states: dict[str, Arrays] = {}
    for spec in long_members():
        ended, late = follow(Cohort([spec], width=1), step=LAST_STEP)
        outcomes, states = outcomes | ended, states | late
    return outcomes, states


def divergent(seed: int = 50, **changes: object) -> RunSpec:
    return run(seed, {"optim.lr": 1e30, "budget.steps": 400, **changes})


# -- bit for bit over thousands of steps ---------------------------------------------------------


def test_late_entry_beside_divergence_changes_no_bit():
    outcomes, states = follow(Cohort([divergent(50), *long_members(), divergent(51)], width=3), step=LAST_STEP)
    assert_same({spec.run_id: outcomes[spec.run_id] for spec in long_members()}, long_alone()[0])
    assert states.keys() == long_alone()[1].keys()
    for run_id, state in states.items():
        assert set(state) == {"row", "optim.mean", "optim.square"}
        assert_same_arrays(state, long_alone()[1][run_id])


def test_another_slot_and_narrowing_change_no_bit():
    cohort = Cohort([long_members()[i] for i in (3, 1, 0, 2)], width=4)
    assert_same(finish(cohort), long_alone()[0])
    assert cohort.width == 1  # it narrowed as they ended


def test_kill_and_resume_in_changing_company_change_no_bit():
    a, b, c, d = long_members()
    cohort = Cohort([a, b, c, d], width=4)
    cohort.advance(ticks=611)  # neither a whole data block nor a whole metric ring
    saved = cohort.state()
    legs = [([d, b], 2, RING_STEPS + 37), ([b, divergent(), d], 2, 3 * BLOCK_STEPS), ([c], 1, 777)]
    for members, width, ticks in legs:
        cohort = Cohort(members, width=width, saved=saved.get)
        for _ in range(ticks):
            cohort.advance(ticks=1)
        saved |= cohort.state()
    outcomes = train([divergent(), c, d, a, b], width=3, saved=saved.get)
    assert_same({spec.run_id: outcomes[spec.run_id] for spec in long_members()}, long_alone()[0])


def test_states_saved_at_any_tick_resume_bitwise():
    members = runs(2, {"budget.steps": 2 * BLOCK_STEPS + 3})
    wanted = alone(members)
    for tick in range(0, 2 * BLOCK_STEPS + 3, 5):
        killed = Cohort(members, width=2)
        killed.advance(ticks=tick)
        assert_same(train(members[::-1], saved=killed.state().get), wanted)


def test_saving_changes_nothing_for_the_cohort_that_goes_on():
    members = runs(3)
    cohort, found = Cohort(members, width=2), {}
    while cohort.running:
        cohort.state()
        found |= {outcome.spec.run_id: outcome for outcome in cohort.advance(ticks=3)}
    assert_same(found, alone(members))


def test_saved_states_are_no_views_of_what_trains_on():
    members = runs(2)
    killed = Cohort(members, width=2)
    killed.advance(ticks=21)
    saved = killed.state()
    finish(killed)
    assert_same(train(members, saved=saved.get), alone(members))


# -- bit for bit in every variant ---------------------------------------------------------------

WORDS = {"name": "window_sum", "n": 4, "modulus": 7}
NO_MEASURES = {"log.measures_every_steps": 0}
VARIANTS: dict[str, Mapping[str, object]] = {
    "softmax": {"model.attention": {"name": "softmax", "temperature": 0.5}},
    "normsoftmax_var": {"model.attention": {"name": "normsoftmax", "statistic": "var"}},
    "normsoftmax_std": {"model.attention": {"name": "normsoftmax", "statistic": "std"}},
    "heat_linear": {"model.attention": {"name": "heat", "schedule": "linear", "over_steps": 40, "epoch_steps": 3}},
    "heat_cosine": {"model.attention": {"name": "heat", "schedule": "cosine"}},
    "heat_half_cosine": {"model.attention": {"name": "heat", "schedule": "half_cosine", "end_multiplier": 0.2}},
    "heat_with_normsoftmax": {"model.attention": {"name": "heat", "statistic": "var"}},
    "adam": {"optim": {"name": "adam", "lr": 3e-3, "weight_decay": 0.1}},
    "sgd": {"optim": {"name": "sgd", "lr": 0.05, "weight_decay": 0.01}},
    "sgd_momentum": {"optim": {"name": "sgd", "lr": 0.05, "momentum": 0.9}},
    "clipped": {"optim.clip_norm": 0.1},
    "cosine": {"optim.schedule": {"name": "cosine", "warmup_steps": 7}},
    "sinusoidal": {"model.positions": "sinusoidal"},
    "no_positions": {"model.positions": "none"},
    "relu": {"model.activation": "relu"},
    "qkv_bias": {"model.qkv_bias": True},
    "two_layers": {"model.layers": 2},
    "many_positions": {"task.n_targets": 40, "budget.steps": 12},
    "odd_shape": {"task.n_classes": 3, "task.features": 13, "model.width": 15, "model.heads": 3, "budget.batch": 11},
    "odd_and_many_positions": {"task.n_targets": 38, "task.features": 7, "model.width": 9, "model.heads": 3,
                               "budget": {"batch": 5, "steps": 8}},
    "words": {"task": WORDS},
    "causal_words": {"task": WORDS, "model.causal": True},
    "many_causal_words": {"task": {**WORDS, "n": 10}, "model.causal": True, "budget.steps": 12},
    "causal_normsoftmax_var": {"task": WORDS, "model.causal": True, "model.attention": {"name": "normsoftmax"}},
    "many_causal_normsoftmax_std": {"task": {**WORDS, "n": 10}, "model.causal": True, "budget.steps": 12,
                                    "model.attention": {"name": "normsoftmax", "statistic": "std"}},
    "user_module": {"model": {"name": "module", "path": "user_models:Mixer", "width": 24}, **NO_MEASURES},
    "user_module_on_words": {"model": {"name": "module", "path": "user_models:Recurrent", "width": 12},
                             "task": WORDS, **NO_MEASURES},
    "quickstart": {},
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_bitwise_the_same_alone_and_in_company(name):
    base = QUICKSTART if name == "quickstart" else None
    found = assert_same_in_company(staggered(runs(3, VARIANTS[name], base=base)))
    assert all(np.isfinite(outcome.metrics["loss"]).all() for outcome in found.values())


def test_one_head_on_many_positions_is_bitwise_the_same_in_company():
    model, budget = {"heads": 1, "width": 10, "init_std": 0.2}, {"batch": 27, "steps": 8}
    members = runs(4, {"task.n_targets": 40, "task.features": 7, "model": model, "budget": budget})
    assert_same(train(members), alone(members))


def test_different_seeds_give_different_curves():
    curves = [outcome.metrics["loss"] for outcome in train(runs(3)).values()]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(curves, 2))


@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_any_dealing_into_cohorts_gives_the_same_outcomes(data):
    members, wanted = dealt_members()
    order = data.draw(st.permutations(members))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(members) - 1))))
    found: Trained = {}
    for first, last in itertools.pairwise([0, *cuts, len(members)]):
        found |= train(order[first:last], width=data.draw(st.integers(1, last - first)))
    assert_same(found, wanted)


@functools.cache
def dealt_members() -> tuple[Sequence[RunSpec], Trained]:
    lengths = [(seed, {"budget.steps": 20 + 9 * seed, "optim.lr": 1e-3 * (1 + seed)}) for seed in range(5)]
    members = [*(run(seed, change) for seed, change in lengths), divergent(**{"task.noise": 0.3})]
    return members, alone(members)


# -- where a run ends -----------------------------------------------------------------------------


def eventful(n: int, after: int, **changes: object) -> list[RunSpec]:
    return runs(n, {**EVENTFUL, "stop.after_event_steps": after, **changes})


@functools.cache
def eventful_alone() -> Trained:
    return alone(eventful(4, 40))


def test_event_ends_a_run_so_many_steps_later():
    outcomes = [*eventful_alone().values(), *alone(eventful(2, 60)).values()]
    for outcome in outcomes:
        assert (outcome.status, outcome.reason) == ("finished", "event")
        assert outcome.event_step is not None
        assert outcome.steps == outcome.event_step + outcome.spec.stop.after_event_steps
        assert all(len(values) == outcome.steps for values in outcome.metrics.values())


def test_event_is_always_confirmed_before_it_ends_a_run():
    [outcome] = alone(eventful(1, 0)).values()
    assert outcome.steps == outcome.event_step + outcome.spec.stop.sustained_steps


def test_event_curve_is_the_start_of_the_curve_without_a_stop():
    [stopped] = alone(eventful(1, 40)).values()
    [full] = alone(runs(1, EVENTFUL)).values()
    assert (full.steps, full.reason, full.event_step) == (300, "budget", stopped.event_step)
    for name, values in stopped.metrics.items():
        np.testing.assert_array_equal(values, full.metrics[name][: stopped.steps])


def test_budget_ends_a_run_after_exactly_its_steps():
    members = [run(seed, {"budget.steps": steps}) for seed, steps in enumerate((1, BLOCK_STEPS, RING_STEPS + 1))]
    for spec, outcome in zip(members, (train(members, width=2)[spec.run_id] for spec in members), strict=True):
        assert (outcome.steps, outcome.status, outcome.reason) == (spec.budget.steps, "finished", "budget")
        assert [len(values) for values in outcome.metrics.values()] == [spec.budget.steps] * 3
        assert list(outcome.measured_steps) == list(range(0, spec.budget.steps, 7))


@pytest.mark.parametrize("poll_steps", [2, 7, 32])
def test_polls_do_not_move_where_runs_end(poll_steps):
    """A device that is asked rarely trains past the end; what it did there leaves no trace."""
    members = [*eventful(4, 40), divergent(**{"stop.after_event_steps": 40}), run(9, {"budget.steps": 45})]
    cohort = Cohort(members, width=3)
    cohort.poll_steps = poll_steps
    assert_same(finish(cohort), eventful_alone() | alone(members[4:]))


@pytest.mark.parametrize("ticks", [1, 7, 100])
def test_ticks_do_not_move_where_runs_end(ticks):
    assert_same(train(eventful(4, 40), width=3, ticks=ticks), eventful_alone())


def test_seconds_do_not_move_where_runs_end():
    cohort, found = Cohort(eventful(4, 40), width=2), {}
    while cohort.running:
        found |= {outcome.spec.run_id: outcome for outcome in cohort.advance(seconds=0.003)}
    assert_same(found, eventful_alone())


def test_advance_without_time_or_ticks_trains_nothing():
    cohort = Cohort(runs(1), width=1)
    assert cohort.advance(seconds=0.0) == [] == cohort.advance(ticks=0)
    assert cohort.run_steps == 0


def test_advance_returns_members_in_the_order_they_end():
    members = [run(seed, {"budget.steps": steps}) for seed, steps in enumerate((30, 10, 20))]
    cohort, ends = Cohort(members, width=3), []
    while cohort.running:
        ends += [outcome.steps for outcome in cohort.advance()]
    assert ends == [10, 20, 30]
    assert cohort.run_steps == 60


def test_divergence_is_recorded_with_step_and_reason():
    spec = divergent()
    [outcome] = train([spec]).values()
    losses = outcome.metrics["loss"]
    assert (outcome.status, outcome.event_step) == ("diverged", None)
    assert outcome.steps == len(losses) < spec.budget.steps
    assert np.all(losses[:-1] <= spec.stop.diverged_above)
    assert not losses[-1] <= spec.stop.diverged_above
    assert outcome.reason.startswith("loss became ")
    assert outcome.reason.endswith(f" at step {outcome.steps - 1}")


def test_a_slot_forgets_a_clipped_member_that_diverged():
    clipped = {"optim.clip_norm": 0.5, "task.features": 13}  # weights that leave room between them
    members = runs(2, clipped)
    found = train([divergent(**clipped), *members], width=1)
    assert_same({spec.run_id: found[spec.run_id] for spec in members}, alone(members))


def test_a_loss_above_the_ceiling_is_divergence():
    spec = run(0, {"stop.diverged_above": 0.01})
    [outcome] = train([spec]).values()
    assert (outcome.status, outcome.steps) == ("diverged", 1)
    assert outcome.reason == f"loss became {outcome.metrics['loss'][0]:.3g} at step 0"


def test_events_counts_running_members_past_their_moment():
    cohort = Cohort(runs(1, EVENTFUL), width=1)
    assert cohort.events() == 0
    cohort.advance(ticks=eventful_alone()[eventful(1, 40)[0].run_id].steps)
    assert cohort.events() == 1


def test_runs_resumed_before_and_after_their_moment_end_where_they_would_have():
    members = [*eventful(4, 40), run(9, {"stop.diverged_above": 0.75, "budget.steps": 300})]
    wanted = eventful_alone() | alone(members[4:])
    for ticks in (30, 100):
        killed = Cohort(members, width=5)
        found: Trained = {}
        for _ in range(ticks):
            found |= {outcome.spec.run_id: outcome for outcome in killed.advance(ticks=1)}
        left = [spec for spec in members if spec.run_id not in found]
        assert_same(found | train(left, width=2, saved=killed.state().get), wanted)


# -- saved states that do not fit ------------------------------------------------------------------

BREAKS = {
    "another width": lambda state: state | {"layout": state["layout"] + 16},
    "no weights": lambda state: {name: values for name, values in state.items() if name != "row"},
    "another optimiser": lambda state: {name: values for name, values in state.items() if name != "optim.square"},
    "short history": lambda state: state | {"history": state["history"][:-1]},
    "short row": lambda state: state | {"row": state["row"][:-1]},
    "short watch": lambda state: state | {"watch": state["watch"][:-1]},
    "unmatched measures": lambda state: state | {"measured_steps": state["measured_steps"][:-1]},
}


@pytest.mark.parametrize("broken", BREAKS)
def test_unreadable_state_starts_the_run_afresh_and_says_so(broken):
    members = runs(2)
    killed = Cohort(members, width=2)
    killed.advance(ticks=25)
    saved = killed.state()
    saved[members[0].run_id] = BREAKS[broken](saved[members[0].run_id])
    told: list[UnreadableState] = []
    found = train(members, saved=saved.get, on_unreadable=told.append)
    assert [members[0].run_id[:8] in str(error) for error in told] == [True]
    assert "\n" not in str(told[0])
    assert_same(found, alone(members))


def test_cohort_refuses_members_of_two_shapes():
    with pytest.raises(AssertionError, match="one shape"):
        Cohort([run(0), run(1, {"model.width": 32})], width=2)


def test_seconds_are_shared_out_and_width_is_recorded():
    outcomes = train(runs(3, {"budget.steps": 30})).values()
    assert {outcome.width for outcome in outcomes} == {3}
    assert all(outcome.seconds > 0.0 for outcome in outcomes)


def test_nothing_is_drawn_from_the_global_generator():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    train(runs(2, {"budget.steps": 20}))
    assert torch.equal(torch.random.get_rng_state(), before)
