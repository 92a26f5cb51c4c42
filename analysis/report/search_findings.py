"""What a search found, in four plain lines: the best it was told, where that is, what it spent, and what it was not."""

from analysis.figures import search_front
from analysis.figures.search_words import objective_words
from analysis.labels import config_text, estimate_text
from analysis.study import Study
from analysis.trials import PARAM, Search


def search_lines(study: Study, *, chance: str) -> list[str]:
    """Four lines on a search whose configs are points of a space.

    Args:
        study: of a search.
        chance: P(eureka) over all runs, in words.
    """
    search = study.search
    assert search is not None
    if search.name == "boundary":
        level = float(search.options.get("chance", 0.5))
        told = [
            f"Searched for: the line on which P(eureka) is {level:g}; figure `search_line` has it, with its band",
            f"Along: {', '.join(search.fields)}",
        ]
    elif len(search.objectives) > 1:
        told = _front(study, search)
    else:
        told = _best(search)
    steps = int(study.runs["steps"].sum()) if study.runs.height else 0
    rounds = search.trials["round"].n_unique()
    return [
        *told,
        f"Over the runs asked for, P(eureka by step {study.horizon_steps:,}): {chance}; no average of the space",
        f"Spent: {steps:,} run-steps on {search.trials.height:,} trials, asked in {rounds:,} rounds",
    ]


def _best(search: Search) -> list[str]:
    """The best trial; of many, so its value flatters."""
    label, is_more = next(iter(search.objectives.items()))
    rows = search.told(label)
    if rows.is_empty():
        return [f"Best {objective_words(label)}: nothing told yet", "At: not known yet"]
    best = rows.sort("value", descending=is_more, maintain_order=True).row(0, named=True)
    digits = 2 if abs(best["value"]) < 10 else 0
    value = estimate_text(best["value"], best["low"], best["high"], digits=digits)
    luck = f", the best of {rows.height:,} and so partly luck" if rows.height > 1 else ""
    return [f"Best {objective_words(label)}: {value} n={best['runs']}{luck}", f"At: {_settings(best, search)}"]


def _front(study: Study, search: Search) -> list[str]:
    """How many trials no other beats in the first two objectives, and the ends of their line."""
    table = search_front.table(study)
    up, across = (objective_words(label) for label in list(search.objectives)[:2])
    if table.is_empty():
        return [f"No other is better in both {up} and {across}: nothing told yet", "From: not known yet"]
    front = table.filter("is_front").sort("x", "y")
    low, high = front.row(0, named=True), front.row(-1, named=True)
    ends = (f"{row['y']:.2f} at {row['x']:,.0f}" for row in (low, high))
    return [
        f"No other is better in both {up} and {across}: {front.height:,} of {table.height:,} trials",
        f"From {' to '.join(ends)}",
    ]


def _settings(trial: dict[str, object], search: Search) -> str:
    """A trial's settings; one that is not there beside the others is left out."""
    row = {name: trial[PARAM + name] for name in search.fields if trial[PARAM + name] is not None}
    return config_text(row, axes=list(row))


__all__ = ["search_lines"]
