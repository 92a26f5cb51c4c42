"""What a search scores: a config, over its runs.

| objective | over a config's runs | unit |
|---|---|---|
| `p_eureka: {by_step: T}` | probability of an event by step T, (k + 1/2) / (n + 1) for k of n runs | fraction |
| `rmst: {by_step: T}` | mean of the event's step, or T where it has not come | steps |
| `median_step` | median of the event's step; the budget where it has not come | steps |
| `plateau_length` | mean number of steps before the event; the budget where it has not come | steps |
| `final_loss` | median of the loss at the end; a diverged run's is infinite | nats |
| `run_steps` | mean number of steps trained | steps |

A probability is shrunk as Jeffreys' prior would have it, since few seeds say 0 or 1 with too much confidence and a
sampler takes them at their word. A diverged run never has its event. A failed run says nothing: the config is scored
over the others.

Events are those of the online rule, which the ledger has with each run: scoring reads no curve, costs the same
after ten runs and after a hundred thousand, and a search that goes on next year is told the same values. The report
judges the same runs again with the sweep's detector.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.search.proposal import Outcome

GOALS = {"maximize": True, "maximise": True, "minimize": False, "minimise": False}
HAS_STEP = ("p_eureka", "rmst")  # by which to ask; the others look at a whole run
OBJECTIVES = {  # whether more is better, unless the file says
    "p_eureka": True,
    "rmst": False,
    "median_step": False,
    "plateau_length": False,
    "final_loss": False,
    "run_steps": False,
}


@dataclass(frozen=True, kw_only=True)
class Score:
    """A config's value, with a 95 % interval where its runs allow one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One thing to make large or small.

    Attributes:
        kind: of OBJECTIVES.
        by_step: where to look; None is the whole run [optimiser steps].
        is_maximised: more is better.
        label: what columns call it.
    """

    kind: str
    by_step: int | None = None
    is_maximised: bool = False
    label: str = ""

    def score(self, outcomes: Sequence[Outcome]) -> Score | None:
        """Its value over a config's runs; None where no run says anything."""
        told = [one for one in outcomes if one.status != "failed"]
        return _SCORES[self.kind](told, self.by_step) if told else None

    def record(self) -> dict[str, Any]:
        """It, ready for JSON."""
        goal = "maximize" if self.is_maximised else "minimize"
        return {"kind": self.kind, "by_step": self.by_step, "goal": goal, "label": self.label}


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A bound on what a config may score.

    Attributes:
        objective: what is bounded.
        bound: its least or largest value.
        is_least: whether it is the least.
    """

    objective: Objective
    bound: float
    is_least: bool

    def excess(self, value: float) -> float:
        """By how much a value breaks the bound; zero or less where it keeps it."""
        return self.bound - value if self.is_least else value - self.bound

    def record(self) -> dict[str, Any]:
        """It, ready for JSON."""
        return {**self.objective.record(), "at_least" if self.is_least else "at_most": self.bound}


def scores(outcomes: Sequence[Outcome], *, objectives: Sequence[Objective]) -> dict[str, Score]:
    """The scores of a config by label; those that cannot be told are left out."""
    found = {one.label: one.score(outcomes) for one in objectives}
    return {label: score for label, score in found.items() if score is not None}


def unusable(found: Mapping[str, Score], *, objectives: Sequence[Objective]) -> str:
    """Why scores cannot be told, in a few words; empty where they can."""
    for one in objectives:
        if one.label not in found:
            return "every run failed"
        if not math.isfinite(found[one.label].value):
            return f"{one.label} is not finite"
    return ""


def _p_eureka(outcomes: Sequence[Outcome], by_step: int | None) -> Score:
    """Source: Brown, Cai and DasGupta 2001, Stat. Sci. 16:101."""
    from analysis.interval import binomial_interval

    n = len(outcomes)
    k = sum(one.event_step is not None and one.event_step <= _horizon(one, by_step) for one in outcomes)
    low, high = binomial_interval(k, n=n, method="jeffreys")
    return Score(value=(k + 0.5) / (n + 1.0), low=low, high=high)


def _rmst(outcomes: Sequence[Outcome], by_step: int | None) -> Score:
    return _mean([_wait(one, by_step) for one in outcomes], most=max(_horizon(one, by_step) for one in outcomes))


def _median_step(outcomes: Sequence[Outcome], _: int | None) -> Score:
    return _median([_wait(one, None) for one in outcomes])


def _final_loss(outcomes: Sequence[Outcome], _: int | None) -> Score | None:
    losses = [math.inf if one.status == "diverged" else one.final_loss for one in outcomes]
    there = [loss for loss in losses if loss is not None and not math.isnan(loss)]
    return _median(there) if there else None


def _run_steps(outcomes: Sequence[Outcome], _: int | None) -> Score:
    return _mean([float(one.steps) for one in outcomes], most=max(one.budget for one in outcomes))


def _horizon(outcome: Outcome, by_step: int | None) -> int:
    return outcome.budget if by_step is None else by_step


def _wait(outcome: Outcome, by_step: int | None) -> float:
    """Steps until the event, or as far as one looks."""
    most = _horizon(outcome, by_step)
    return float(most if outcome.event_step is None else min(outcome.event_step, most))


def _mean(values: Sequence[float], *, most: float) -> Score:
    """Mean with Student's interval, which one run does not have."""
    n, mean = len(values), sum(values) / len(values)
    if n < 2:
        return Score(value=mean)
    from scipy.stats import t

    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * spread / math.sqrt(n)
    return Score(value=mean, low=max(0.0, mean - half), high=min(float(most), mean + half))


def _median(values: Sequence[float]) -> Score:
    from analysis.interval import median_interval

    ordered = sorted(values)
    value, low, high = median_interval(ordered)
    return Score(value=value, low=low, high=high)


_SCORES: dict[str, Any] = {
    "p_eureka": _p_eureka,
    "rmst": _rmst,
    "median_step": _median_step,
    "plateau_length": lambda outcomes, _: _rmst(outcomes, None),
    "final_loss": _final_loss,
    "run_steps": _run_steps,
}
