"""Seeds go where they are needed, and looking again and again costs no error."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from analysis.sequential import width_rule
from orchestrator.errors import BadRequest
from orchestrator.search import STRATEGIES
from orchestrator.search.proposal import Answer, Outcome, Proposal
from orchestrator.search.replicates import Narrow, Replicates, compared
from orchestrator.search.request import read_search
from orchestrator.yaml_source import parse
from tests.orchestrator.search import simulate
from tests.orchestrator.search.studies import BUDGET, GRID, answered, flat, law_of, play, total_runs

PAIR = [{"a": 1}, {"a": 2}]


def narrow(configs=GRID, *, width=0.3, most=10_000):
    return Replicates(configs, Narrow(rule=width_rule(width), by_step=BUDGET, most=most))


def test_every_interval_ends_as_narrow_as_asked():
    strategy = narrow()
    play(strategy, law=law_of, rng=np.random.default_rng(0))
    ends = [strategy.goal.interval(runs) for runs in strategy.seen]
    assert strategy.is_over
    assert all(high - low <= 0.3 for low, high in ends)
    assert set(strategy.goal.verdicts(strategy.seen)) == {"narrow"}


def test_uncertain_configs_get_more_seeds_than_certain_ones():
    strategy = narrow()
    play(strategy, law=law_of, rng=np.random.default_rng(0))
    chances = np.array([law_of(params).chance_by(BUDGET) for params in GRID])
    runs = np.array([len(seen) for seen in strategy.seen])
    assert runs[np.abs(chances - 0.5) < 0.2].mean() > 2 * runs[np.abs(chances - 0.5) > 0.45].mean()


def test_no_seed_is_asked_twice_and_none_left_out():
    strategy = narrow()
    told = play(strategy, law=law_of, rng=np.random.default_rng(1), most_runs=10)
    for config in GRID:
        asked = [r for answer in told if answer.proposal.params == config for r in answer.proposal.replicates]
        assert asked == list(range(len(asked)))
    assert [answer.proposal.trial for answer in sorted(told, key=lambda a: a.proposal.trial)] == list(range(len(told)))


def test_a_look_waits_for_the_answer_before_it():
    strategy = narrow(PAIR)
    first = strategy.ask(most_runs=1000)
    assert [proposal.replicates for proposal in first] == [range(8), range(8)]
    assert strategy.ask(most_runs=1000) == []
    assert not strategy.is_over
    strategy.tell(answered(first[1], law=flat(0.5), rng=np.random.default_rng(0)))
    [second] = strategy.ask(most_runs=1000)
    assert (second.params, second.replicates) == (PAIR[1], range(8, 12))


def test_few_runs_are_asked_where_few_are_wanted():
    proposals = narrow().ask(most_runs=20)
    assert len(proposals) == 3


def test_a_search_started_again_goes_on_as_if_never_stopped():
    whole, rng = narrow(), np.random.default_rng(2)
    told = play(whole, law=law_of, rng=rng, most_runs=30)
    for cut in (3, len(told) // 2, len(told) - 1):
        again = narrow()
        for answer in told[cut - 3 : cut]:
            again.recall(answer.proposal)  # under way when it was killed
        for answer in reversed(told[: cut - 3]):
            again.recall(answer.proposal)
        for index in rng.permutation(cut):
            again.tell(told[index])
        straight = narrow()
        for answer in told[:cut]:
            straight.tell(answer)
        assert again.ask(most_runs=10**6) == straight.ask(most_runs=10**6)
        assert again.seen == straight.seen


def test_what_is_under_way_is_not_asked_again():
    strategy = narrow(PAIR)
    strategy.recall(Proposal(trial=5, params=PAIR[0], replicates=range(8)))
    [proposal] = strategy.ask(most_runs=1000)
    assert proposal.params == PAIR[1]
    assert proposal.trial == 6


def test_failed_runs_say_nothing_and_diverged_ones_count():
    strategy = narrow([{"a": 1}], width=0.5)
    [proposal] = strategy.ask(most_runs=8)
    ended = [("failed", None), ("diverged", None), *[("finished", 100)] * 6]
    outcomes = [
        Outcome(replicate=i, status=status, event_step=event, steps=200, budget=BUDGET, final_loss=None)
        for i, (status, event) in enumerate(ended)
    ]
    strategy.tell(Answer(proposal=proposal, outcomes=tuple(outcomes)))
    assert strategy.goal.interval(strategy.seen[0]) == strategy.goal.rule.interval(6, runs=7)


def test_a_config_that_makes_no_run_is_left_alone():
    strategy = narrow(PAIR)
    first, other = strategy.ask(most_runs=1000)
    strategy.tell(Answer(proposal=first, outcomes=()))
    strategy.tell(answered(other, law=flat(1.0), rng=np.random.default_rng(0)))
    play(strategy, law=flat(1.0), rng=np.random.default_rng(0))
    assert strategy.is_over
    assert [len(runs) > 0 for runs in strategy.seen] == [False, True]


def test_seeds_end_at_the_most():
    strategy = narrow(PAIR, width=0.1, most=12)
    told = play(strategy, law=flat(0.5), rng=np.random.default_rng(0))
    assert total_runs(told) == 24
    assert strategy.is_over
    assert strategy.goal.verdicts(strategy.seen) == ["most runs"] * 2


def test_plain_differences_are_found_early():
    strategy = Replicates(PAIR, compared(2, by_step=BUDGET, most=64))
    told = play(strategy, law=lambda p: flat(0.05 if p["a"] == 1 else 0.95)(p), rng=np.random.default_rng(0))
    assert strategy.goal.verdicts(strategy.seen) == ["reference", "higher"]
    assert total_runs(told) < 50


def test_sooner_events_are_told_from_later_ones():
    def law(params):
        return (
            flat(0.95)(params)
            if params["a"] == 1
            else type(law_of(GRID[0]))(chance=0.95, diverges=0.0, median_steps=250.0, law="lognormal", spread=0.4)
        )

    strategy = Replicates(PAIR, compared(2, by="time", by_step=BUDGET))
    told = play(strategy, law=law, rng=np.random.default_rng(0))
    assert strategy.goal.verdicts(strategy.seen) == ["reference", "later"]
    assert total_runs(told) < 80


def test_much_the_same_is_said_within_the_margin():
    goal = compared(2, by_step=BUDGET, margin=0.2, most=200, each=12)
    strategy = Replicates(PAIR, goal)
    play(strategy, law=flat(0.98), rng=np.random.default_rng(3))
    assert goal.verdicts(strategy.seen) == ["reference", "much the same"]


def test_equal_configs_are_seldom_called_different():
    found = simulate.false_alarms(studies=300, chances=(0.5,), seed=0)
    assert binomtest(round(found[0]["different"] * 300), 300, 0.05, alternative="greater").pvalue > 0.01


def test_a_few_studies_are_covered_at_half_the_runs():
    found = simulate.widths(studies=40, widths=(0.2,), seed=0)[0]
    assert found["coverage"] >= 0.93
    assert found["share of equal runs"] <= 0.5


SEARCH = """
base: {task: {name: declared}, model: {name: declared}, optim: {name: sgd, lr: 1e-3}, budget: {steps: 600, batch: 1}}
search:
  name: replicates
  space: {optim.lr: [1.0e-3, 1.0e-2], model.attention.temperature: [1, 2]}
  objective: {p_eureka: {by_step: 500}}
  options: %s
"""


def strategy_of(options: str, *, changes: tuple[tuple[str, str], ...] = ()):
    text = SEARCH % options
    for old, new in changes:
        text = text.replace(old, new)
    data, source = parse(text, file="sweep.yaml")
    search = read_search(data, base=data["base"], replicates=1, source=source)
    return STRATEGIES["replicates"](search.asked, search.space, 0)


def test_a_sweep_file_says_when_it_is_enough():
    strategy = strategy_of("{until: narrow, width: 0.25, each: 6}")
    assert strategy.goal == Narrow(rule=width_rule(0.25, each=6), by_step=500, most=64)
    strategy = strategy_of(
        "{until: compared, reference: {optim.lr: 1e-2, model.attention.temperature: 2}, margin: 0.1}"
    )
    assert strategy.goal == compared(4, reference=3, by_step=500, margin=0.1)


@pytest.mark.parametrize(
    ("options", "changes", "said"),
    [
        ("{width: 2}", (), "search.options.width: got 2"),
        ("{widht: 0.2}", (), "Did you mean 'width'?"),
        ("{until: bored}", (), "search.options.until: got 'bored'"),
        ("{most: 4}", (), "search.options.most: got 4; expected 8 (first) or more"),
        ("{until: compared, reference: {optim.lr: 3}}", (), "got optim.lr 3, which none of the 4 configs has"),
        ("{until: compared, reference: {optim.lr: 1e-2}}", (), "which 2 of the 4 configs have"),
        (
            "{}",
            (("[1.0e-3, 1.0e-2]", "{log_range: [1e-3, 1e-2]}"),),
            "search.space.optim.lr: got a range without an end",
        ),
        (
            "{}",
            (("{p_eureka: {by_step: 500}}", "median_step"),),
            "search.objective: got median_step; expected p_eureka",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(options, changes, said):
    with pytest.raises(BadRequest) as caught:
        strategy_of(options, changes=changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_studies_of_every_width_are_covered_at_half_the_runs():
    for found in simulate.widths(studies=500, widths=(0.3, 0.2, 0.15), seed=1):
        assert found["coverage"] >= 0.93, found
        assert found["share of equal runs"] <= 0.5, found
    for found in simulate.false_alarms(studies=2000, chances=(0.1, 0.5, 0.9), seed=1):
        assert found["different"] <= 0.06, found
