"""Interventions on what is shown: nothing, other data, and a number in the place of what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from workloads.probing.intervention import Intervention

if TYPE_CHECKING:
    import torch
    from torch import nn

    from workloads.probing.bench import Bench, Reading
    from workloads.spec import RunSpec


class Plain(Intervention):
    """Nothing is changed, but for the data where `task` says so: what the other readings are held against."""

    name: Literal["plain"] = "plain"

    def readings(self, bench: Bench) -> Iterator[Reading]:
        """The task's metrics."""
        from workloads.probing.bench import Reading

        for metric, values in bench.scores(bench.answers()).items():
            yield Reading(metric=metric, values=values)


class Substitute(Intervention):
    """A number is shown in the place of every missing entry: does the model say that number there, or the right one.

    Readings, for each number and, as item `missing`, for the word that says that an entry is missing: the task's
    metrics; the mean answer at missing entries (`answer_at_missing`); and their mean squared distance to the number
    that was shown (`squares_to_shown`, to 0 for `missing`) and to the right one (`squares_to_right`). A model that
    copies has the former near 0; one that completes does not.

    Attributes:
        numbers: what is shown, separated by spaces.

    Source: Gopalani, Lubana and Hu 2024, arXiv 2410.22244, table 1.
    """

    name: Literal["substitute"] = "substitute"
    numbers: str = Field("0.44 -0.24", pattern=r"^-?\d+(\.\d+)?( -?\d+(\.\d+)?)*$")

    def unfit(self, spec: RunSpec, model: nn.Module) -> str:
        """The task must have entries that are missing, and words for the numbers."""
        if "stand_in" not in type(spec.task).model_fields:
            return f"a task with missing entries; got {spec.task.name}"
        beyond = [word for word in self.numbers.split() if abs(float(word)) > spec.task.reach]
        return f"numbers within the reach of ±{spec.task.reach}; got {beyond[0]}" if beyond else ""

    def readings(self, bench: Bench) -> Iterator[Reading]:
        """Number by number; matrices and masks stay the same."""
        import torch

        from workloads.probing.bench import Reading

        task, missing = bench.spec.task, bench.batch["missing"]
        wanted = bench.batch["y"][..., 0]
        for word in ("missing", *self.numbers.split()):
            shown = 0.0 if word == "missing" else float(word)
            instead = task.word_of(None if word == "missing" else shown)
            batch = bench.batch | {"x": torch.where(missing, instead, bench.batch["x"])}
            output = bench.answers(batch)
            answers = output[..., 0]
            further = {
                "answer_at_missing": _mean(answers, missing),
                "squares_to_shown": _mean((answers - shown).square(), missing),
                "squares_to_right": _mean((answers - wanted).square(), missing),
            }
            for metric, values in {**bench.scores(output, batch), **further}.items():
                yield Reading(metric=metric, values=values, item=word)


def _mean(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    from workloads.tasks.matrix_completion import mean_where

    return mean_where(values, where.float())
