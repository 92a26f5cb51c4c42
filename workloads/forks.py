"""Runs that begin with another run's weights, or train only some of their parts.

Parts are named by patterns over parameters' dotted names, separated by spaces: `embed`, `blocks.0.attention`,
`blocks.*.up`. A pattern stands for every parameter in whose name it is a whole piece between dots.

Source: the component-wise training of Gopalani, Lubana and Hu 2024 (NeurIPS), where one part is drawn anew and trained
while all others keep the weights of a run that has had its event.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator

from workloads.errors import near_miss
from workloads.fields import Frozen, per_member, static

if TYPE_CHECKING:
    from workloads.tasks.task import Shapes

END = "end"


class StartFrom(Frozen):
    """Weights of another run to begin with; its optimiser state is not taken over.

    Attributes:
        run: its run_id.
        step: of the snapshot, which that run's `log.snapshots` asked for [updates made].
        fresh: parts that are drawn from this run's own `seed.init` instead.
    """

    run: str = per_member(pattern=r"^[0-9a-f]{16}$")
    step: int = per_member(ge=0)
    fresh: str = per_member("")


class Trainable(Frozen):
    """Which parts train; the others keep the weights they begin with, without gradient or decay.

    Attributes:
        only: their patterns.
    """

    version: Literal[1] = static(1)  # static, and absent from runs that train whole: those do not share a cohort
    only: str = per_member(min_length=1)


def matching(patterns: str, names: Iterable[str]) -> frozenset[str]:
    """The parameters that any of the patterns stands for."""
    wanted = [f"*.{pattern}.*" for pattern in patterns.split()]
    return frozenset(name for name in names if any(fnmatchcase(f".{name}.", pattern) for pattern in wanted))


def unknown_parts(patterns: str, *, model: Any, shapes: Shapes) -> str:
    """What is wrong with the patterns, as the end of a sentence; empty where each stands for something."""
    names = parameter_names(model, shapes)
    for pattern in patterns.split():
        if not matching(pattern, names):
            parts = sorted({name.partition(".")[0] for name in names} | {name.split(".")[-2] for name in names[1:]})
            return f"parts of the model ({', '.join(parts)}); got '{pattern}'. {near_miss(pattern, parts)}".rstrip()
    return ""


@functools.cache
def parameter_names(model: Any, shapes: Shapes) -> tuple[str, ...]:
    """Names of a model's parameters, in the order of its rows; imports torch."""
    from workloads.rows import Layout

    return tuple(place.name for place in Layout(model.build(shapes)).places)


def _steps_in_order(value: Any) -> Any:
    """`[500, 0, "end"]`, `500` or `"0 500 end"` as the last of these; anything else for the type to refuse."""
    words = [str(word) for word in value] if isinstance(value, list | tuple) else str(value).split()
    if isinstance(value, bool | float) or not all(word == END or word.isdecimal() for word in words):
        raise ValueError(f"steps, or the word end, such as [0, 500, end]; got {value!r}")
    steps = sorted({int(word) for word in words if word != END})
    return " ".join([*map(str, steps), *([END] if END in words else [])])


SnapshotSteps = Annotated[str, BeforeValidator(_steps_in_order)]


def is_snapshot_due(steps: str, *, step: int, ended: bool = False) -> bool:
    """Whether the weights after `step` updates are to be kept."""
    words = steps.split()
    return str(step) in words or (ended and END in words)
