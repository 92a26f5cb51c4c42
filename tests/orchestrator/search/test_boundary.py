"""The line on which learning switches on is found, with far fewer runs than a grid takes."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.errors import BadRequest
from orchestrator.search import STRATEGIES
from orchestrator.search.boundary import Boundary, Options
from orchestrator.search.proposal import Answer, Outcome, Proposal
from orchestrator.search.request import read_search
from orchestrator.yaml_source import parse
from tests.orchestrator.search import simulate
from tests.orchestrator.search.studies import BUDGET, as_steep_as, chances, law_of, play

LR, TEMPERATURE = "optim.lr", "model.attention.temperature"


def searcher(*, start=16, seed=0, replicates=1, axes=simulate.AXES, **options):
    found = Options(start=start, **options)
    return Boundary(axes, by_step=BUDGET, replicates=replicates, options=found, seed=seed)


def test_fast_chances_are_the_declared_ones():
    points = [{LR: lr, TEMPERATURE: t} for lr in (2e-4, 1e-3, 2e-2) for t in (0.5, 1.3)]
    fast = chances(np.array([p[LR] for p in points]), np.array([p[TEMPERATURE] for p in points]))
    assert fast == pytest.approx([law_of(p).chance_by(BUDGET) for p in points])


def test_runs_gather_where_the_line_is():
    strategy = searcher()
    told = play(strategy, law=as_steep_as(20.0), rng=np.random.default_rng(0), most_runs=16, runs=64)
    unit = np.array([strategy._asked[answer.proposal.trial] for answer in told])
    away = np.linalg.norm(unit[:, None] * simulate.DECADES - simulate.true_line(20.0)[None], axis=2).min(1)
    trial = np.array([answer.proposal.trial for answer in told])
    assert away[trial >= 32].mean() < 0.6 * away[trial < 16].mean()


def test_the_line_is_found():
    [error] = simulate.searched_lines(runs=(80,), seed=0, start=16, batch=16, steep=20.0)
    assert error < 0.08  # decades


@pytest.mark.slow
def test_a_third_of_a_grids_runs_find_the_line_as_well():
    searched = [simulate.searched_lines(runs=(128,), seed=i, steep=20.0)[0] for i in range(20)]
    grid = [simulate.grid_line(side=20, seeds=1, seed=i, steep=20.0) for i in range(20)]  # 400 runs
    assert np.median(searched) <= np.median(grid)


def test_every_point_has_seeds_of_its_own():
    strategy = searcher(replicates=3)
    told = play(strategy, law=law_of, rng=np.random.default_rng(0), most_runs=24, runs=60)
    seeds = [r for answer in told for r in answer.proposal.replicates]
    assert len(seeds) == len(set(seeds)) == 60


def test_points_stay_inside_the_ranges():
    told = play(searcher(), law=law_of, rng=np.random.default_rng(1), most_runs=8, runs=48)
    for answer in told:
        assert 1e-4 <= answer.proposal.params[LR] <= 1e-1
        assert 0.25 <= answer.proposal.params[TEMPERATURE] <= 4.0


def test_a_batch_spreads_along_the_line():
    strategy = searcher(spread_share=0.0)
    play(strategy, law=law_of, rng=np.random.default_rng(0), most_runs=8, runs=32)
    batch = [strategy._unit(proposal.params) for proposal in strategy.ask(most_runs=8)]
    apart = np.linalg.norm(np.array(batch)[:, None] - np.array(batch)[None], axis=2)
    assert apart[np.triu_indices(8, 1)].min() > 0.02


def test_answers_to_the_start_are_awaited():
    strategy = searcher(start=16)
    asked = strategy.ask(most_runs=10) + strategy.ask(most_runs=10)
    assert len(asked) == 16
    assert strategy.ask(most_runs=10) == []
    assert not strategy.is_over


def test_a_search_started_again_asks_what_it_would_have_asked():
    told = play(searcher(), law=law_of, rng=np.random.default_rng(4), most_runs=8, runs=40)
    straight, again = searcher(), searcher()
    for answer in told:
        straight.tell(answer)
    for index in np.random.default_rng(0).permutation(len(told)):
        again.recall(told[index].proposal)
    for index in np.random.default_rng(1).permutation(len(told)):
        again.tell(told[index])
    assert straight.ask(most_runs=4) == again.ask(most_runs=4)


def test_what_is_under_way_is_counted_as_asked():
    strategy = searcher()
    play(strategy, law=law_of, rng=np.random.default_rng(0), most_runs=8, runs=32)
    first, second = strategy.ask(most_runs=4), strategy.ask(most_runs=4)
    assert not {str(one.params) for one in first} & {str(one.params) for one in second}
    assert [one.trial for one in first + second] == list(range(32, 40))


def outcome(replicate, *, status="finished", event=None):
    return Outcome(replicate=replicate, status=status, event_step=event, steps=1, budget=BUDGET, final_loss=None)


def test_failed_runs_say_nothing_and_late_events_are_none():
    strategy = searcher(replicates=3)
    [proposal] = strategy.ask(most_runs=3)
    outcomes = (outcome(0, status="failed"), outcome(1, event=100), outcome(2, event=BUDGET + 1))
    strategy.tell(Answer(proposal=proposal, outcomes=outcomes))
    assert strategy._told == {0: (1, 2)}


def test_points_that_make_no_run_stop_nothing():
    strategy = searcher()
    for proposal in strategy.ask(most_runs=16):
        strategy.tell(Answer(proposal=proposal, outcomes=()))
    assert len(strategy.ask(most_runs=8)) == 8


def test_runs_that_all_say_the_same_are_followed_by_even_ones():
    strategy = searcher()
    for _ in range(4):
        for proposal in strategy.ask(most_runs=8):
            strategy.tell(Answer(proposal=proposal, outcomes=(outcome(proposal.replicates[0]),)))
    assert strategy.process() is None
    assert len(strategy._asked) == 32


def test_it_is_over_once_the_line_is_known_as_well_as_asked():
    strategy = searcher(wrong_share=0.08)
    told = play(strategy, law=law_of, rng=np.random.default_rng(0), most_runs=8, runs=300)
    assert strategy.is_over
    assert len(told) < 300
    assert strategy.ask(most_runs=8) == []


@pytest.mark.parametrize("axes", [1, 3])
def test_one_and_three_ranges_work_too(axes):
    third = type(simulate.AXES[0])(field="optim.weight_decay", kind="float", low=0.0, high=1.0)
    chosen = (*simulate.AXES, third)[:axes]
    strategy = searcher(axes=chosen)

    def law(params):
        return law_of({TEMPERATURE: 1.0} | params)

    told = play(strategy, law=law, rng=np.random.default_rng(0), most_runs=8, runs=32)
    assert all(set(answer.proposal.params) == {axis.field for axis in chosen} for answer in told)
    assert strategy.process() is not None


def test_the_proposal_of_another_process_is_known_by_its_values():
    strategy = searcher()
    [first] = strategy.ask(most_runs=1)
    other = searcher()
    other.recall(Proposal(trial=0, params=dict(first.params), replicates=range(1)))
    assert strategy._asked[0] == pytest.approx(other._asked[0], abs=0)


SEARCH = """
base: {task: {name: declared}, model: {name: declared}, optim: {name: sgd, lr: 1e-3}, budget: {steps: 600, batch: 1}}
search:
  name: boundary
  space: {optim.lr: {log_range: [1.0e-4, 1.0e-1]}, model.attention.temperature: {log_range: [0.5, 2]}}
  objective: {p_eureka: {by_step: 500}}
  configs: 100
  options: %s
"""


def strategy_of(options="{}", *, replicates=1, changes=()):
    text = SEARCH % options
    for old, new in changes:
        text = text.replace(old, new)
    data, source = parse(text, file="sweep.yaml")
    search = read_search(data, base=data["base"], replicates=replicates, source=source)
    return STRATEGIES["boundary"](search.asked, search.space, 3)


def test_a_sweep_file_says_which_line():
    strategy = strategy_of("{chance: 0.8, criterion: straddle}", replicates=2)
    assert (strategy.options.chance, strategy.by_step, strategy.replicates) == (0.8, 500, 2)
    assert [axis.field for axis in strategy.axes] == [LR, TEMPERATURE]


@pytest.mark.parametrize(
    ("options", "changes", "said"),
    [
        ("{chance: 1}", (), "search.options.chance: got 1"),
        ("{chnace: 0.5}", (), "Did you mean 'chance'?"),
        ("{criterion: luck}", (), "search.options.criterion: got 'luck'"),
        ("{start: 2}", (), "search.options.start: got 2"),
        ("{}", (("{log_range: [0.5, 2]}", "[0.5, 1, 2]"),), "temperature: got a list of values; expected a range"),
        (
            "{}",
            (("{p_eureka: {by_step: 500}}", "median_step"),),
            "search.objective: got median_step; expected p_eureka",
        ),
        ("{}", (("  configs: 100\n", ""),), "got no budget; expected configs, run_steps, hours or options.wrong_share"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(options, changes, said):
    with pytest.raises(BadRequest) as caught:
        strategy_of(options, changes=changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_crossed_seeds_are_refused():
    with pytest.raises(BadRequest, match="crossed replicates"):
        strategy_of(replicates={"init": 2, "data": 2})
