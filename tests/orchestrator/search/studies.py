"""Whole searches in numpy: strategies are asked and told as the driver does it, runs are drawn from a declared law."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from orchestrator.search.proposal import Answer, Outcome, Proposal
from workloads.spec import resolve
from workloads.tasks.declared import Truth, truth

BUDGET = 600
STEEP = 9.0  # logits a decade of the rate
LR, TEMPERATURE = "optim.lr", "model.attention.temperature"
# learning switches on towards high rates, earlier with a soft softmax, and off again where the rate is too high
CHANCE = (
    "expit(5 + 9 * (log10(optim.lr) + 3.2 + 0.5 * log2(model.attention.temperature)))"
    " * expit(9 * (0 - 1.8 - log10(optim.lr)))"
)
BASE: dict[str, Any] = {
    "task": {"name": "declared", "chance": CHANCE, "median_steps": "120 * (optim.lr / 1e-3)**-0.2"},
    "model": {"name": "declared"},
    "optim": {"name": "sgd", "lr": 1e-3},
    "budget": {"steps": BUDGET, "batch": 1},
}
RATES = np.geomspace(1e-4, 1e-1, 7)
TEMPERATURES = np.geomspace(0.5, 2.0, 5)
GRID = [{LR: float(lr), TEMPERATURE: float(t)} for lr in RATES for t in TEMPERATURES]
Law = Callable[[Mapping[str, Any]], Truth]


def law_of(params: Mapping[str, Any]) -> Truth:
    """The declared law at some values of the two axes."""
    return _law(float(params[LR]), float(params[TEMPERATURE]))


@cache
def _law(lr: float, temperature: float) -> Truth:
    model = {"name": "declared", "attention": {"temperature": temperature}}
    return truth(resolve({**BASE, "model": model, "optim": {"name": "sgd", "lr": lr}}))


def chances(lr: np.ndarray, temperature: np.ndarray, *, steep: float = STEEP) -> np.ndarray:
    """P(event by the budget), as the formulas of `BASE` have it, for many points at once."""
    median = 120 * (lr / 1e-3) ** -0.2
    return _ever(lr, temperature, steep=steep) * norm.cdf(np.log(BUDGET / median) / 0.4)


def _ever(lr: np.ndarray, temperature: np.ndarray, *, steep: float) -> np.ndarray:
    decades = np.log10(lr)
    ever = expit(5 + steep * (decades + 3.2 + 0.5 * np.log2(temperature)))
    return ever * expit(steep * (-1.8 - decades))


def as_steep_as(steep: float) -> Law:
    """`law_of` with so many logits a decade."""

    def law(params: Mapping[str, Any]) -> Truth:
        lr, temperature = np.array([params[LR]]), np.array([params[TEMPERATURE]])
        ever = float(_ever(lr, temperature, steep=steep)[0])
        return Truth(
            chance=ever, diverges=0.0, median_steps=120 * (params[LR] / 1e-3) ** -0.2, law="lognormal", spread=0.4
        )

    return law


def flat(chance: float) -> Law:
    """The same chance everywhere."""
    return lambda params: Truth(chance=chance, diverges=0.0, median_steps=100.0, law="lognormal", spread=0.4)


def answered(proposal: Proposal, *, law: Law, rng: np.random.Generator) -> Answer:
    """Its runs, drawn."""
    here = law(proposal.params)
    steps = [here.ever_quantile(luck) for luck in rng.random(len(proposal.replicates))]
    outcomes = [
        Outcome(replicate=r, status="finished", event_step=round(s) if s <= BUDGET else None, steps=BUDGET,
                budget=BUDGET, final_loss=0.1 if s <= BUDGET else 1.0)
        for r, s in zip(proposal.replicates, steps, strict=True)
    ]  # fmt: skip
    return Answer(proposal=proposal, outcomes=tuple(outcomes))


def play(strategy: Any, *, law: Law, rng: np.random.Generator, most_runs: int = 64, runs: int = 10**9) -> list[Answer]:
    """Ask and tell until it is over, or so many runs are spent; answers come in any order."""
    told: list[Answer] = []
    spent = 0
    while not strategy.is_over and spent < runs:
        proposals = strategy.ask(most_runs=min(most_runs, runs - spent))
        if not proposals:
            break
        for index in rng.permutation(len(proposals)):
            answer = answered(proposals[index], law=law, rng=rng)
            strategy.tell(answer)
            told.append(answer)
            spent += len(answer.outcomes)
    return told


def total_runs(told: Sequence[Answer]) -> int:
    return sum(len(answer.outcomes) for answer in told)
