"""What `eureka plan` and `eureka run` say of a search."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from orchestrator.progress import about
from orchestrator.search.forecast import Forecast
from orchestrator.search.request import Search
from orchestrator.search.space import Setting

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orchestrator.search.study import Book
    from orchestrator.search.trial import Trial


def forecast_panel(ahead: Forecast) -> RenderableType:
    """A forecast as a few labelled lines."""
    from rich.console import Group

    from orchestrator.show import labelled, title

    search, n = ahead.search, ahead.search.space.n_replicates
    settings, left = search.asked.settings, ahead.trials_left
    per = f"{n} {'replicate' if n == 1 else 'replicates'}"
    most = f"at most {left:,} trials × {per} = {left * n:,} runs" if left is not None else f"trials of {per}"
    counted = ", ".join(f"{count:,} {state}" for state, count in ahead.trials.items() if count)
    steps = ahead.run_steps_at_most
    rows = [
        ("search", f"{search.name}, for {_goals(search)}"),
        *(("setting", f"{one.field}  {_setting(one)}") for one in search.space.settings),
        ("to ask", most + (f"; {counted} in the study" if counted else "")),
        ("run-steps", "unbounded" if steps is None else f"about {ahead.run_steps_expected:,.0f} (at most {steps:,})"),
        ("time", about(ahead.duration) or "unknown: no step of these shapes was timed here"),
        *([("budget", f"{settings.hours:g} h; what is under way then is finished")] if settings.hours else []),
        ("interval", f"{ahead.record()['interval_width']:.2f} wide (95 % Wilson at P = 1/2, n = {n} a config)"),
    ]
    return Group(title(ahead.sweep.name, ahead.sweep.question), labelled(rows))


def best_lines(book: Book, *, search: Search) -> tuple[str, ...]:
    """The best trial, or the trials that none beats in every objective."""
    own = [trial for trial in book.trials.values() if trial.state == "complete" and _keeps(trial, search)]
    if not own:
        return ()
    if len(search.asked.objectives) == 1:
        objective = search.asked.objectives[0]
        best = max(own, key=lambda one: _worth(one, search)[0])
        return (f"best {objective.label}: {_score(best, objective.label)} at {_point(best)} (trial {best.number})",)
    front = [one for one in own if not any(_beats(other, one, search) for other in own)]
    labels = [one.label for one in search.asked.objectives]
    shown = sorted(front, key=lambda one: -_worth(one, search)[0])[:8]
    told = [f"  {', '.join(f'{label} {_score(one, label)}' for label in labels)} at {_point(one)}" for one in shown]
    return (f"{len(front)} of {len(own)} trials are beaten by none in every objective:", *told)


def _goals(search: Search) -> str:
    told = [
        f"{'more' if one.is_maximised else 'less'} {one.kind}{f' by step {one.by_step:,}' if one.by_step else ''}"
        for one in search.asked.objectives
    ]
    bounds = [f"{one.objective.kind} {'≥' if one.is_least else '≤'} {one.bound:g}" for one in search.asked.constraints]
    return " and ".join(told) + (f", with {' and '.join(bounds)}" if bounds else "")


def _setting(one: Setting) -> str:
    if one.kind == "choice":
        shown = ", ".join(str(one.label(value)) for value in one.choices[:8])
        text = f"{shown}{', …' if len(one.choices) > 8 else ''}  ({len(one.choices)})"
    else:
        text = f"{one.low:g} to {one.high:g}{', logarithmic' if one.is_log else ''}"
        text += f", step {one.step:g}" if one.step else ""
    when = " and ".join(f"{name} is {' or '.join(map(str, values))}" for name, values in one.when.items())
    return text + (f"; where {when}" if when else "")


def _worth(trial: Trial, search: Search) -> list[float]:
    return [
        trial.scores[one.label].value if one.is_maximised else -trial.scores[one.label].value
        for one in search.asked.objectives
    ]


def _beats(one: Trial, other: Trial, search: Search) -> bool:
    ours, theirs = _worth(one, search), _worth(other, search)
    return all(a >= b for a, b in zip(ours, theirs, strict=True)) and ours != theirs


def _keeps(trial: Trial, search: Search) -> bool:
    """Whether it keeps every constraint."""
    return all(
        one.objective.label in trial.scores and one.excess(trial.scores[one.objective.label].value) <= 0
        for one in search.asked.constraints
    )


def _score(trial: Trial, label: str) -> str:
    score = trial.scores[label]
    if score.low is None or score.high is None:
        return _number(score.value)
    return f"{_number(score.value)} [{_number(score.low)}, {_number(score.high)}]"


def _number(value: float) -> str:
    return f"{value:.3g}" if not math.isfinite(value) or abs(value) < 1000 else f"{value:,.0f}"


def _point(trial: Trial) -> str:
    return ", ".join(f"{name}={_shown(value)}" for name, value in trial.params.items())


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
