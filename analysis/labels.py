"""What a reader sees for a column and a value: words for people, the dotted name for whoever writes the next sweep."""

from collections.abc import Mapping, Sequence

WORDS = {
    "optim.lr": "learning rate",
    "optim.weight_decay": "weight decay",
    "optim.clip_norm": "clipping norm",
    "optim.name": "optimiser",
    "optim.schedule.name": "learning-rate schedule",
    "optim.schedule.warmup_steps": "warm-up [optimiser steps]",
    "model.name": "model",
    "model.attention.name": "attention",
    "model.attention.temperature": "attention temperature",
    "model.width": "model width",
    "model.layers": "layers",
    "model.heads": "attention heads",
    "model.norm": "normalisation",
    "task.name": "task",
    "task.n_classes": "classes",
    "budget.steps": "budget [optimiser steps]",
    "budget.batch": "batch [examples]",
    "seed.init": "initialisation seed",
    "seed.data": "data seed",
}


def words(name: str) -> str:
    """A dotted name in words: `optim.lr` is `learning rate`; unknown names keep their last part."""
    return WORDS.get(name, short(name).replace("_", " "))


def axis_label(name: str) -> str:
    """For the side of a figure: `learning rate (optim.lr)`; `task` where the words are the name."""
    return f"{words(name)} ({name})" if words(name) != name else name


def short(name: str) -> str:
    """For a terminal: `optim.lr` is `lr`, `model.attention.name` is `attention`."""
    parts = name.split(".")
    return parts[-2] if parts[-1] == "name" and len(parts) > 1 else parts[-1]


def value_text(value: object) -> str:
    """A setting's value, as short as it stays exact enough to tell levels apart: 0.001, 3e-05, softmax, – for none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def config_text(row: Mapping[str, object], *, axes: Sequence[str]) -> str:
    """A config in a line: `lr 0.001, temperature 2`; `all runs` where nothing varies."""
    return ", ".join(f"{short(axis)} {value_text(row[axis])}" for axis in axes) or "all runs"


def estimate_text(
    value: float | None, low: float | None, high: float | None, *, digits: int = 2, none: str = "–"
) -> str:
    """An estimate with its interval: `0.88 [0.53, 0.98]`; an open end is `…`."""
    if value is None:
        return none

    def text(number: float | None) -> str:
        return "…" if number is None else f"{number:,.{digits}f}" if digits else f"{number:,.0f}"

    return f"{text(value)} [{text(low)}, {text(high)}]"
